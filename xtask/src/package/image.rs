//! `cargo xtask image`: a container image of memmon, as an OCI image layout in a .tar.
//!
//! It is written here and not by buildah or umoci: an image of one layer is a .tar and four small files in JSON, while those
//! tools want root or a user namespace, a store of their own, and a base image from a registry. The layer has the packaged
//! binary and the C library that it was linked with, from this machine's packages, and no shell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;
use serde_json::{Value, json};

use super::{Kind, directory, packages};
use crate::{shell, workspace};

/// Make a container image of memmon in target/image, from the packages of `cargo xtask package`
///
/// The file is an OCI image layout, which podman, skopeo and containerd load:
///
///   skopeo copy oci-archive:FILE docker://REGISTRY/memmon:VERSION
///
/// It has memmon, the C library of this machine, and records of both (CycloneDX, and dpkg's status). Without arguments a
/// container sends no signal (`run --dry-run`).
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Use the release that an earlier run built
    #[arg(long)]
    no_build: bool,
}

/// Makes the image, and prints its path.
pub(crate) fn main(options: &Options) -> Result<()> {
    let made = packages(&[Kind::Tar, Kind::Record], options.no_build)?;
    let [_, record] = &made[..] else { anyhow::bail!("the record of dependencies is missing") };
    let out = workspace::root().join("target/image");
    println!("{}", image(&directory().join("tree"), Some(record), &out)?.display());
    Ok(())
}

/// Makes the image of the binary in a .deb, in the folder `out`, for a test of what such an image needs.
pub(crate) fn of_package(package: &Path, out: &Path) -> Result<PathBuf> {
    let tree = tempfile::tempdir()?;
    shell::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(tree.path()))?;
    image(tree.path(), None, out)
}

/// Makes the image of the tree of a package in the folder `out`.
fn image(tree: &Path, record: Option<&Path>, out: &Path) -> Result<PathBuf> {
    let (when, revision) = (super::commit_time()?, revision());
    let binary = tree.join("usr/sbin/memmon");
    write(&Contents { binary: &binary, record, when: &when, revision: &revision }, out)
}

/// The name of the image, by which tools choose it in the layout.
const TAG: &str = concat!("memmon:", env!("CARGO_PKG_VERSION"));

/// The content of an image.
struct Contents<'a> {
    binary: &'a Path,
    /// The dependencies of the binary.
    record: Option<&'a Path>,
    /// The time of all files, in seconds since 1970.
    when: &'a str,
    /// The commit, or nothing.
    revision: &'a str,
}

/// A file that is named by its checksum.
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn described(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.size })
    }
}

/// Writes the image into the folder `out`, which is replaced, and returns the path of its archive.
fn write(contents: &Contents<'_>, out: &Path) -> Result<PathBuf> {
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    let (root, layout) = (out.join("root"), out.join("layout"));
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    fill(contents, &root)?;

    let layer = out.join("layer.tar");
    archive(&root, contents.when, &layer)?;
    let unpacked = digest(&layer)?;
    shell::run(Command::new("gzip").args(["--best", "--no-name"]).arg(&layer))?;
    let layer = put(&layout, &out.join("layer.tar.gz"))?;

    let put_json = |name: &str, value: &Value| -> Result<Blob> {
        fs::write(out.join(name), value.to_string())?;
        put(&layout, &out.join(name))
    };
    let config = put_json("config.json", &configuration(contents, &unpacked)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.described("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.described("application/vnd.oci.image.layer.v1.tar+gzip")],
        "annotations": labels(contents)?,
    });
    let manifest = put_json("manifest.json", &manifest)?;
    let mut described = manifest.described("application/vnd.oci.image.manifest.v1+json");
    // Podman takes the part behind the last colon of a name as its tag, and containerd wants a whole name.
    described["annotations"] = json!({ "org.opencontainers.image.ref.name": TAG, "io.containerd.image.name": format!("localhost/{TAG}") });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described],
    });
    for (name, value) in [("index.json", index), ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }))] {
        fs::write(layout.join(name), value.to_string())?;
    }
    let image = out.join(format!("memmon-{}-{}.oci.tar", env!("CARGO_PKG_VERSION"), architecture()));
    archive(&layout, contents.when, &image)?;
    fs::remove_dir_all(&root)?;
    Ok(image)
}

/// The name of this architecture in Go's terms, which the format uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn configuration(contents: &Contents<'_>, layer: &str) -> Result<Value> {
    let created = created(contents.when)?;
    Ok(json!({
        "created": created,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": "0:0",
            "Entrypoint": ["/usr/sbin/memmon"],
            // A container that is started without a configuration must end nothing.
            "Cmd": ["run", "--dry-run"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": labels(contents)?,
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": created, "created_by": "cargo xtask image" }],
    }))
}

/// The labels of the image, by the annotations that OCI's image specification predefines.
fn labels(contents: &Contents<'_>) -> Result<BTreeMap<&'static str, String>> {
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.title", "memmon".to_owned()),
        (
            "org.opencontainers.image.description",
            "Terminates processes that exceed a memory limit before the machine runs out".to_owned(),
        ),
        ("org.opencontainers.image.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE").to_owned()),
        ("org.opencontainers.image.created", created(contents.when)?),
    ]);
    if !contents.revision.is_empty() {
        labels.insert("org.opencontainers.image.revision", contents.revision.to_owned());
    }
    Ok(labels)
}

fn created(when: &str) -> Result<String> {
    let mut date = Command::new("date");
    let text = shell::read(date.args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", "--date"]).arg(format!("@{when}")))?;
    Ok(text.trim().to_owned())
}

/// The commit that is packaged; nothing without a git history.
fn revision() -> String {
    let mut git = Command::new("git");
    let commit = shell::read(git.current_dir(workspace::root()).args(["rev-parse", "HEAD"]));
    commit.map(|commit| commit.trim().to_owned()).unwrap_or_default()
}

/// Fills the root file system.
fn fill(contents: &Contents<'_>, root: &Path) -> Result<()> {
    // The runtime mounts /proc, /sys and /dev; the others are for volumes and for what memmon keeps.
    for folder in ["dev", "etc/memmon", "proc", "run", "sys", "usr/sbin", "var/lib/memmon", "var/log"] {
        fs::create_dir_all(root.join(folder))?;
    }
    copy(contents.binary, root, Path::new("/usr/sbin/memmon"), 0o755)?;
    let libraries = libraries(contents.binary)?;
    for library in &libraries {
        copy(library, root, library, 0o755)?;
    }
    let documents = Path::new("/usr/share/doc/memmon");
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&workspace::root().join(license), root, &documents.join(license), 0o644)?;
    }
    if let Some(record) = contents.record {
        copy(record, root, &documents.join(record.file_name().unwrap_or_default()), 0o644)?;
    }
    for package in owners(&libraries)? {
        // Scanners find these in an image without dpkg there (distroless images have them), and the license wants the copyright.
        let status = shell::read(Command::new("dpkg-query").args(["--status", &package]))?;
        let name = package.split(':').next().unwrap_or(&package);
        let file = root.join("var/lib/dpkg/status.d").join(name);
        fs::create_dir_all(file.parent().unwrap_or(root))?;
        fs::write(&file, status)?;
        let copyright = Path::new("/usr/share/doc").join(name).join("copyright");
        copy(&fs::canonicalize(&copyright)?, root, &copyright, 0o644)?;
    }
    Ok(())
}

/// Copies a file to `place` below `root`.
fn copy(from: &Path, root: &Path, place: &Path, mode: u32) -> Result<()> {
    let to = root.join(place.strip_prefix("/").unwrap_or(place));
    fs::create_dir_all(to.parent().unwrap_or(root))?;
    fs::copy(from, &to)?;
    Ok(fs::set_permissions(&to, Permissions::from_mode(mode))?)
}

/// The shared libraries that `binary` needs, and its program interpreter, by the paths at which it looks for them.
fn libraries(binary: &Path) -> Result<BTreeSet<PathBuf>> {
    let text = shell::read(Command::new("ldd").env("LC_ALL", "C").arg(binary))?;
    let found = in_ldd(&text)?;
    ensure!(!found.is_empty(), "{} needs no library: it is not linked as packages are", binary.display());
    Ok(found)
}

/// The paths in the output of ldd: `libc.so.6 => /lib/… (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn in_ldd(text: &str) -> Result<BTreeSet<PathBuf>> {
    ensure!(!text.contains("not found"), "a library is missing on this machine:\n{text}");
    let path = |line: &str| {
        let named = line.split_once("=>").map_or(line, |(_, path)| path).trim();
        named.starts_with('/').then(|| PathBuf::from(named.split(" (").next().unwrap_or(named)))
    };
    Ok(text.lines().filter_map(path).collect())
}

/// The packages of these files, if this is Debian or one of its kin.
fn owners(files: &BTreeSet<PathBuf>) -> Result<BTreeSet<String>> {
    if shell::find("dpkg-query").is_none() {
        return Ok(BTreeSet::new());
    }
    let mut owners = BTreeSet::new();
    for file in files {
        // /lib is a link to /usr/lib today, and the database has either path.
        let real = fs::canonicalize(file)?;
        let search = |path: &Path| shell::read(Command::new("dpkg-query").arg("--search").arg(path)).ok();
        let aliased = Path::new("/").join(real.strip_prefix("/usr").unwrap_or(&real));
        let found = search(&real).or_else(|| search(&aliased));
        let found = found.with_context(|| format!("no package has {}", file.display()))?;
        owners.extend(found.lines().filter_map(|line| Some(line.split_once(": ")?.0.to_owned())));
    }
    Ok(owners)
}

/// Packs a folder, so that equal folders make equal archives.
fn archive(folder: &Path, when: &str, file: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg("--mode=u+rwX,go+rX,go-w").arg(format!("--mtime=@{when}")).arg("--file").arg(file);
    shell::run(tar.arg("--directory").arg(folder).arg("."))
}

/// Moves a file to its place among the blobs.
fn put(layout: &Path, file: &Path) -> Result<Blob> {
    let digest = digest(file)?;
    let size = fs::metadata(file)?.len();
    let place = layout.join("blobs").join(digest.replace(':', "/"));
    fs::rename(file, &place)?;
    Ok(Blob { digest, size })
}

fn digest(file: &Path) -> Result<String> {
    let text = shell::read(Command::new("sha256sum").arg("--binary").arg(file))?;
    let sum = text.split_whitespace().next().context("sha256sum printed nothing")?;
    Ok(format!("sha256:{}", sum.trim_start_matches('\\')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of this test's own binary, unpacked: its layout and its root file system.
    fn made() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("memmon.cdx.json");
        fs::write(&record, "{}").unwrap();
        let binary = std::env::current_exe().unwrap();
        let contents =
            Contents { binary: &binary, record: Some(&record), when: "1764385200", revision: "0123abcd" };
        let image = write(&contents, &folder.path().join("image")).unwrap();
        let (layout, root) = (folder.path().join("read"), folder.path().join("unpacked"));
        fs::create_dir(&layout).unwrap();
        shell::run(Command::new("tar").arg("-xf").arg(&image).arg("-C").arg(&layout)).unwrap();
        let manifest = read(&layout, &json_of(&layout.join("index.json"))["manifests"][0]);
        fs::create_dir(&root).unwrap();
        let layer = blob(&layout, &manifest["layers"][0]);
        shell::run(Command::new("tar").arg("-xzf").arg(layer).arg("-C").arg(&root)).unwrap();
        (folder, layout, root)
    }

    fn json_of(file: &Path) -> Value {
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    }

    /// The file that is described, which has the size and the checksum that the description has.
    fn blob(layout: &Path, described: &Value) -> PathBuf {
        let name = described["digest"].as_str().unwrap();
        let file = layout.join("blobs").join(name.replace(':', "/"));
        assert_eq!(digest(&file).unwrap(), name);
        assert_eq!(described["size"], fs::metadata(&file).unwrap().len());
        file
    }

    fn read(layout: &Path, described: &Value) -> Value {
        json_of(&blob(layout, described))
    }

    #[test]
    fn the_layout_is_that_of_ocis_specification() {
        let (folder, layout, _) = made();
        assert_eq!(json_of(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
        let index = json_of(&layout.join("index.json"));
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], TAG);
        let manifest = read(&layout, &index["manifests"][0]);
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
        let config = read(&layout, &manifest["config"]);
        assert_eq!((&config["os"], &config["architecture"]), (&"linux".into(), &architecture().into()));
        assert_eq!(config["config"]["Cmd"], json!(["run", "--dry-run"]));
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(labels["org.opencontainers.image.created"], "2025-11-29T03:00:00Z");
        assert_eq!(labels["org.opencontainers.image.revision"], "0123abcd");
        // The checksum of the layer as it is unpacked.
        let packed = folder.path().join("layer.tar.gz");
        fs::copy(blob(&layout, &manifest["layers"][0]), &packed).unwrap();
        shell::run(Command::new("gunzip").arg(&packed)).unwrap();
        let unpacked = digest(&folder.path().join("layer.tar")).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([unpacked]));
        // Nothing else is in it.
        assert_eq!(layout.join("blobs/sha256").read_dir().unwrap().count(), 3);
    }

    #[test]
    fn the_binary_finds_all_of_its_libraries_in_the_image() {
        let (_folder, _, root) = made();
        let binary = root.join("usr/sbin/memmon");
        let needed = libraries(&std::env::current_exe().unwrap()).unwrap();
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap());
        let interpreter = needed.iter().find(|path| path.to_str().unwrap().contains("/ld-")).unwrap();
        let folders: BTreeSet<_> = needed.iter().map(|path| below(path.parent().unwrap())).collect();
        let folders: Vec<_> = folders.iter().map(|folder| folder.to_str().unwrap()).collect();
        let mut list = Command::new(below(interpreter));
        list.args(["--inhibit-cache", "--library-path", &folders.join(":"), "--list"]).arg(&binary);
        let found = in_ldd(&shell::read(&mut list).unwrap()).unwrap();
        assert!(!found.is_empty());
        for library in found.iter().filter(|path| *path != interpreter) {
            assert!(library.starts_with(&root), "{} is not in the image", library.display());
        }
    }

    #[test]
    fn the_image_has_the_records_of_all_that_is_in_it() {
        let (_folder, _, root) = made();
        let documents = root.join("usr/share/doc/memmon");
        for file in ["LICENSE-APACHE", "LICENSE-MIT", "memmon.cdx.json"] {
            assert!(documents.join(file).is_file(), "{file}");
        }
        let needed = libraries(&std::env::current_exe().unwrap()).unwrap();
        for package in owners(&needed).unwrap() {
            let name = package.split(':').next().unwrap();
            let status = fs::read_to_string(root.join("var/lib/dpkg/status.d").join(name)).unwrap();
            assert!(status.starts_with(&format!("Package: {name}\n")) && status.contains("\nVersion: "));
            assert!(root.join("usr/share/doc").join(name).join("copyright").is_file());
        }
        assert!(root.join("etc/memmon").is_dir() && !root.join("bin/sh").exists());
    }

    #[test]
    fn ldds_output_has_paths_and_a_library_that_is_missing_is_an_error() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f7d)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f7e)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(in_ldd(text).unwrap(), BTreeSet::from(expected));
        let missing = in_ldd("\tlibx.so.1 => not found\n").unwrap_err().to_string();
        assert!(missing.contains("libx.so.1"), "{missing}");
    }
}
