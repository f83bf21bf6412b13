//! The binary `rorqual`.

// Payload comes and goes in buffers of half a megabyte. The system's allocator gives each back to the kernel and gets it again,
// page by page; this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    rorqual_node::cli::main()
}
