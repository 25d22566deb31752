//! Clients in other languages, from stubs that are generated from `proto/`: every method, every
//! status, and bad input over the wire. What they check stands in `tests/clients/`; here is what
//! they talk to.
//!
//! A [`scene`] is a router and its databases. A [`script`] talks to it; what a client cannot do
//! itself, such as freezing a server, it asks the [`director`] for.

mod bad_input;
mod clients;
mod director;
mod misconfigured;
mod scene;
mod script;
