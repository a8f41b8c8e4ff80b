//! Compiles the protobuf files with protox, so that no protoc binary is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        ["proto/meta.proto", "proto/cluster.proto", "proto/admin.proto", "proto/peer.proto"],
        ["proto"],
    )?;
    // A page of names alone is moved far more cheaply when attributes stand elsewhere.
    tonic_prost_build::configure()
        .bytes(".")
        .boxed(".cairn.v1.DirectoryEntry.attr")
        .boxed(".cairn.v1.DirectoryEntry.map")
        .compile_fds(files)?;
    Ok(())
}
