//! atproto.
