//! Rebuilds the object when the linker changes: cargo does not know that the object depends on the
//! linker.

fn main() {
    println!("cargo:rerun-if-env-changed=PATH");
    if let Ok(linker) = which::which("bpf-linker") {
        println!("cargo:rerun-if-changed={}", linker.display());
    }
}
