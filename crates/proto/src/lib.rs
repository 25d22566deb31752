//! The wire contract, generated from `proto/freehold/v1`. Nothing else is here.
//!
//! Bytes fields are [`bytes`](https://docs.rs/bytes) buffers; `google.rpc.Status` is
//! [`tonic_types::Status`].

/// Package `freehold.v1`: messages, clients and servers of `KeyValue` and `Admin`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    tonic::include_proto!("freehold.v1");
}

/// The encoded `FileDescriptorSet` of the package, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
