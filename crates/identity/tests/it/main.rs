//! What the crate promises, through its public face only.

mod binding;
mod codec;
mod credentials;
mod entity_record;
mod invitation;
mod realm;
mod revocation;
mod world;
