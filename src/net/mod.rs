//! Sockets and HTTP connections, both directions.
