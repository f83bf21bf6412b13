//! RFC 6962-shaped BLAKE3 trees.
