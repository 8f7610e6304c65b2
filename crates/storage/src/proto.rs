//! The messages of `proto/`, as prost generates them.
#![allow(
    missing_docs,
    reason = "generated: the documentation is in the .proto files"
)]
#![allow(unreachable_pub, reason = "generated")]

pub(crate) mod log {
    include!(concat!(env!("OUT_DIR"), "/alluvium.log.v1.rs"));
}

pub(crate) mod manifest {
    include!(concat!(env!("OUT_DIR"), "/alluvium.manifest.v1.rs"));
}
