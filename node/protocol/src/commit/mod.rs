//! The commit rule.
