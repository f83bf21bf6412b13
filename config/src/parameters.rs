//! Node parameters.
