//! The binary `rorqual`.

fn main() -> std::process::ExitCode {
    rorqual_node::cli::main()
}
