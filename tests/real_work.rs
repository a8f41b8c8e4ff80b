//! What people do with a file system: copy trees, build, clone, run a database.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::{bytes, fingerprints, make_tree};
use cairn_tests::{Cluster, ClusterOptions};
use std::fs;
use std::path::Path;
use std::process::Command;

fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The size of a test, which the environment may change.
fn scale(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// `CAIRN_WORK_FILES` makes the tree larger: 10,000 files are 700 MB, with one of 256 MiB among them.
#[test]
fn a_copied_tree_is_the_same_after_a_remount() {
    let cluster = Cluster::up(ClusterOptions::default());
    let source = cairn_tests::cluster::test_dir();
    let files = scale("CAIRN_WORK_FILES", 1_500);
    make_tree(source.path(), 11, files);
    if files >= 10_000 {
        fs::write(source.path().join("large"), bytes(12, 256 << 20)).unwrap();
    }
    let copy = cluster.mount().join("copy");
    sh(source.path(), &format!("cp -a . {}", copy.display()));
    cluster.remount();
    assert!(fingerprints(source.path()) == fingerprints(&copy));
    let sums = "find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum";
    assert_eq!(sh(source.path(), sums), sh(&copy, sums));
    assert_eq!(sh(source.path(), "find . | sort"), sh(&copy, "find . | sort"));
    println!("{files} files: {}", sh(&copy, "du -sm --apparent-size . && find . | wc -l").replace('\n', " "));

    sh(
        &cluster.mount(),
        "tar --xattrs --format=posix -cf t.tar copy && mkdir x && tar --xattrs -xf t.tar -C x",
    );
    assert!(fingerprints(&copy) == fingerprints(&cluster.mount().join("x/copy")));
    sh(&cluster.mount(), "rsync -aHX copy/ synced/ && test -z \"$(rsync -aHXin copy/ synced/)\"");
    assert!(fingerprints(&copy) == fingerprints(&cluster.mount().join("synced")));
    sh(&cluster.mount(), "rm -rf x synced");
    assert_eq!(sh(source.path(), "find . | sort"), sh(&copy, "find . | sort"));
}

#[test]
fn git_and_a_c_project_work_inside_the_mount() {
    let cluster = Cluster::up(ClusterOptions::default());
    let top = cluster.mount();
    sh(
        &top,
        "git init -q a && cd a && git config user.email a@b && git config user.name n \
         && for i in $(seq 200); do echo $i > f$i; done && git add . && git commit -qm one \
         && for i in $(seq 100); do echo more >> f$i; done && git commit -qam two && git gc -q",
    );
    sh(
        &top,
        "git clone -q a b && cd b && git fsck --strict 2>&1 && test \"$(git log --oneline | wc -l)\" = 2",
    );
    fs::write(top.join("m.c"), "#include <stdio.h>\nint f(int);int main(void){printf(\"%d\\n\",f(20));}\n")
        .unwrap();
    fs::write(top.join("f.c"), "int f(int x){return x<2?x:f(x-1)+f(x-2);}\n").unwrap();
    assert_eq!(
        sh(&top, "cc -O1 -c m.c && cc -O1 -c f.c && ar rcs libf.a f.o && cc m.o -L. -lf -o m && ./m"),
        "6765\n"
    );
}

#[test]
fn a_rust_project_is_built_inside_the_mount() {
    let cluster = Cluster::up(ClusterOptions::default());
    let project = cluster.mount().join("project");
    fs::create_dir_all(project.join("src")).unwrap();
    let manifest = "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    fs::write(
        project.join("src/lib.rs"),
        "pub fn f(x: u64) -> u64 { if x < 2 { x } else { f(x - 1) + f(x - 2) } }\n\
        #[test]\nfn of_ten() { assert_eq!(f(10), 55); }\n",
    )
    .unwrap();
    fs::write(project.join("src/main.rs"), "fn main() { println!(\"{}\", project::f(20)); }\n").unwrap();
    // Incremental builds lock, map and link files of their own.
    let cargo = "unset CARGO_TARGET_DIR RUSTFLAGS; export CARGO_INCREMENTAL=1;";
    assert_eq!(sh(&project, &format!("{cargo} cargo run -q --offline")), "6765\n");
    sh(
        &project,
        &format!("{cargo} touch src/lib.rs && cargo test -q --offline && cargo build -q --release --offline"),
    );
    cluster.remount();
    assert_eq!(sh(&project, "./target/release/project"), "6765\n");
}

/// `CAIRN_WORK_TRANSACTIONS` makes it longer.
#[test]
fn sqlite_keeps_its_integrity() {
    let cluster = Cluster::up(ClusterOptions::default());
    let transactions = scale("CAIRN_WORK_TRANSACTIONS", 600);
    let script = "import sqlite3,sys\n\
        c=sqlite3.connect(sys.argv[1],isolation_level=None)\n\
        c.execute('create table t(a integer primary key,b text)')\n\
        for i in range(int(sys.argv[2])):\n  c.execute('begin');c.execute('insert into t values(?,?)',(i,str(i)*50));c.execute('commit')\n\
        print(c.execute('pragma integrity_check').fetchone()[0],c.execute('select count(*) from t').fetchone()[0])";
    let database = cluster.mount().join("db");
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(&database)
        .arg(transactions.to_string())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("ok {transactions}\n"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    cluster.remount();
    let count = sh(&cluster.mount(), "sqlite3 db 'pragma integrity_check; select count(*) from t'");
    assert_eq!(count, format!("ok\n{transactions}\n"));
    println!("{transactions} transactions, integrity ok");
}

#[test]
fn editors_save_by_rename() {
    let cluster = Cluster::up(ClusterOptions::default());
    let file = cluster.mount().join("text");
    fs::write(&file, "one").unwrap();
    for round in 0..100 {
        let backup = cluster.mount().join("text~");
        fs::rename(&file, &backup).unwrap();
        fs::write(&file, format!("round {round}")).unwrap();
        fs::remove_file(&backup).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("round {round}"));
        let temporary = cluster.mount().join(".text.swp");
        fs::write(&temporary, format!("over {round}")).unwrap();
        fs::rename(&temporary, &file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("over {round}"));
    }
}
