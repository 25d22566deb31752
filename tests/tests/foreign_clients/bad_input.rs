//! Every limit, and what is no request at all: over the wire, and never in a database.
