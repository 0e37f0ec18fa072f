"""Attributes of all training users as coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from recpipe.models.attribute_space import AttributeSpace

if TYPE_CHECKING:
    from recpipe.models.tables import TrainingData
    from recpipe.models.taken_matrix import Matrix


def gather_user_attributes(data: TrainingData) -> tuple[AttributeSpace, Matrix]:
    """Read the users' attributes in one pass.

    Returns:
        The space, without coordinates where any block has no attributes, and float32
        (n_users, width), a sparse row of zeros for a user with no value.
    """
    tables = []
    n_users = 0
    for profiles, _ in data.blocks():
        tables.append(profiles.attributes)
        n_users += len(profiles)
    known = [table for table in tables if table is not None]
    table = pa.concat_tables(known, promote_options="default") if known and len(known) == len(tables) else None
    space = AttributeSpace.of(table)
    return space, space.encode(table, n_users)
