"""Users into segments: behaviour features, PCA, K-means, profiles and labels; arrays and tables in and out."""
