//! The page's files are built into the program: a file that comes or goes makes a new program.

fn main() {
    println!("cargo::rerun-if-changed=web");
}
