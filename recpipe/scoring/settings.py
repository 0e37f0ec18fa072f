"""The section `score`."""

from __future__ import annotations

from typing import Annotated

from pydantic import PositiveInt

from recpipe.config import Execution, Settings


class ScoreSettings(Settings):
    """What is recommended to every user."""

    top_n: PositiveInt = 20
    """Length of each user's list; shorter only when fewer items are left."""

    exclude_seen: bool = True
    """Leave out the items a user already interacted with."""

    block_users: Annotated[PositiveInt, Execution()] = 256
    """Users scored at a time. Memory grows with it, the result does not change."""
