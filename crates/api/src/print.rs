//! The columns and cells of server-side tables.
