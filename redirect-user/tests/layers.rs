//! Layers: the modules that each module may import, in one table; and no two files that import each other.
//!
//! Every `use`, and every path that begins with `crate` or `super`, is an import. A name that a module re-exports
//! counts as an import of the file that it is from. An entry of the table that no source needs any more fails as well.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    slice,
};

use syn::{
    ItemMod, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

/// A module, and the modules that it may import.
type Row = (&'static str, &'static str);

/// The layers: of each crate, each module that imports others, and these.
const LAYERS: &[(&str, &[Row])] = &[
    (
        "redirect-common",
        &[
            ("abi", "chain net"),
            ("chain", "facts"),
            ("decide", "chain facts"),
            ("facts", "abi net"),
            ("loopback_pool", "net"),
            ("pod", "abi"),
        ],
    ),
    (
        "redirect-ebpf",
        &[
            ("ctx", "kernel"),
            ("decision", "ctx log maps"),
            (
                "hooks",
                "ctx decision listener maps owner shadow source_addr",
            ),
            ("listener", "ctx maps"),
            ("log", "ctx"),
            ("maps", "storage"),
            ("owner", "kernel"),
            ("shadow", "ctx maps"),
            ("source_addr", "ctx maps"),
        ],
    ),
    (
        "redirect-user",
        &[
            ("bpf", "sys"),
            ("console", "config"),
            ("node", "bpf config policy sys"),
            ("policy", "config sys"),
        ],
    ),
    (
        "redirect-iptables",
        &[
            ("import", "netfilter rules"),
            ("netfilter", "rules"),
            ("parity", "netfilter rules"),
        ],
    ),
    (
        "redirectctl",
        &[("cli", "exec proxy"), ("docs", "cli kernels")],
    ),
    (
        "redirect-agent",
        &[
            ("cgroup_ref", "kubepods"),
            ("cli", "cni desired plan reconcile run source state_dir"),
            ("cni", "accept desired outcome source status workload"),
            ("desired", "source workload"),
            ("http", "accept metrics status"),
            ("metrics", "outcome plan source status"),
            ("outcome", "plan workload"),
            ("plan", "workload"),
            ("reconcile", "cgroup_ref desired outcome plan workload"),
            (
                "run",
                "cni desired http metrics outcome plan reconcile source state_dir status workload",
            ),
            ("source", "cgroup_ref outcome plan workload"),
            ("status", "desired outcome"),
            ("workload", "cgroup_ref"),
        ],
    ),
    (
        "redirect-cni",
        &[
            ("call", "error protocol"),
            ("client", "protocol"),
            ("config", "error"),
            ("plugin", "call client config error protocol"),
        ],
    ),
];

/// Files that import each other, and the reason why they may.
const CIRCLES: &[(&str, &str, &str)] = &[
    (
        "redirect-common: chain::input",
        "redirect-common: chain::rule_id",
        "the identifier of a rule finds its row, and a row has an identifier",
    ),
    (
        "redirect-common: chain::output",
        "redirect-common: chain::rule_id",
        "the identifier of a rule finds its row, and a row has an identifier",
    ),
];

#[test]
fn modules_import_only_the_layers_below_them() {
    let mut problems = Vec::new();
    for (member, rows) in LAYERS {
        let found = Imports::of(member).between_modules();
        let allowed: BTreeMap<_, BTreeSet<_>> = rows
            .iter()
            .map(|(module, imported)| ((*module).to_owned(), words(imported)))
            .collect();
        let modules: BTreeSet<_> = found.keys().chain(allowed.keys()).collect();
        for module in modules {
            let none = BTreeSet::new();
            let found = found.get(module).unwrap_or(&none);
            let allowed = allowed.get(module).unwrap_or(&none);
            for imported in found - allowed {
                problems.push(format!("{member}: {module} imports {imported}: move what it needs, or allow it in the table"));
            }
            for imported in allowed - found {
                problems.push(format!(
                    "{member}: {module} no longer imports {imported}: remove it from the table"
                ));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn no_two_files_import_each_other() {
    let mut found = BTreeSet::new();
    for member in members() {
        let imports = Imports::of(&member);
        for (file, imported) in &imports.edges {
            let back = imported.iter().filter(|other| {
                let others = imports.edges.get(*other);
                // A folder's `mod.rs` and the files in it are one thing for the rest.
                let is_folder = other.starts_with(file);
                file < *other && !is_folder && others.is_some_and(|others| others.contains(file))
            });
            found.extend(back.map(|other| (imports.name(file), imports.name(other))));
        }
    }
    let allowed = CIRCLES
        .iter()
        .map(|(one, other, _)| ((*one).to_owned(), (*other).to_owned()));
    assert_eq!(
        found,
        allowed.collect(),
        "files that import each other: found, and allowed"
    );
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("a workspace").to_owned()
}

/// The crates of the workspace with sources of their own.
fn members() -> Vec<String> {
    let entries = fs::read_dir(workspace()).expect("the workspace").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut members: Vec<_> = names
        .filter(|name| workspace().join(name).join("Cargo.toml").is_file())
        .collect();
    members.sort_unstable();
    assert!(members.len() > 5, "{members:?}");
    members
}

/// A module by its path from the crate's root; the root itself is empty.
type Module = Vec<String>;

/// The imports between the files of one crate.
struct Imports {
    member: String,
    edges: BTreeMap<Module, BTreeSet<Module>>,
}

impl Imports {
    fn of(member: &str) -> Self {
        let mut files = BTreeMap::new();
        let root = workspace().join(member).join("src");
        read(&root, &Module::new(), &mut files);
        let edges = files
            .iter()
            .map(|(module, file)| {
                let paths = file.imports.iter();
                let targets = paths.filter_map(|path| target(&files, module, path, 8));
                let others = targets.filter(|target| target != module);
                (module.clone(), others.collect())
            })
            .collect();
        Self {
            member: member.to_owned(),
            edges,
        }
    }

    /// Which modules directly below the root import which others.
    fn between_modules(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found = BTreeMap::<String, BTreeSet<String>>::new();
        for (file, imported) in &self.edges {
            let Some(module) = file.first() else { continue };
            let others = imported.iter().filter_map(|other| other.first());
            let others: BTreeSet<_> = others.filter(|other| *other != module).cloned().collect();
            if !others.is_empty() {
                found.entry(module.clone()).or_default().extend(others);
            }
        }
        found
    }

    fn name(&self, file: &Module) -> String {
        format!("{}: {}", self.member, file.join("::"))
    }
}

/// A parsed file: the paths that it imports, and the names that it re-exports.
#[derive(Default)]
struct Source {
    imports: Vec<Vec<String>>,
    exports: BTreeMap<String, Vec<String>>,
}

/// Reads the files of a folder, each as the module that it is.
fn read(folder: &Path, module: &Module, files: &mut BTreeMap<Module, Source>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let stem = stem.expect("a name").to_owned();
        let below = || [module.as_slice(), slice::from_ref(&stem)].concat();
        if path.is_dir() {
            if stem != "bin" {
                read(&path, &below(), files);
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let module = match stem.as_str() {
                "mod" | "lib" | "main" => module.clone(),
                _ => below(),
            };
            let text = fs::read_to_string(&path).expect("a source");
            let parsed = syn::parse_file(&text).expect("a source that compiles");
            let source = files.entry(module).or_default();
            source.visit_file(&parsed);
        }
    }
}

impl Visit<'_> for Source {
    fn visit_item_mod(&mut self, i: &ItemMod) {
        // Tests may look at everything.
        let is_test = |attribute: &syn::Attribute| attribute.path().is_ident("cfg");
        if !i.attrs.iter().any(is_test) {
            visit::visit_item_mod(self, i);
        }
    }

    fn visit_item_use(&mut self, i: &ItemUse) {
        let mut paths = Vec::new();
        flatten(&i.tree, &[], &mut paths);
        if matches!(i.vis, Visibility::Inherited) {
            self.imports.extend(paths.into_iter().map(|(path, _)| path));
        } else {
            self.exports
                .extend(paths.into_iter().map(|(path, name)| (name, path)));
        }
    }

    fn visit_path(&mut self, i: &syn::Path) {
        let segments = i.segments.iter();
        self.imports
            .push(segments.map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, i);
    }
}

/// The paths of a `use`, each with the name that it brings.
fn flatten(tree: &UseTree, before: &[String], paths: &mut Vec<(Vec<String>, String)>) {
    let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
    match tree {
        UseTree::Path(path) => flatten(&path.tree, &with(&path.ident), paths),
        UseTree::Name(name) if name.ident == "self" => {
            let name = before.last().cloned().unwrap_or_default();
            paths.push((before.to_vec(), name));
        }
        UseTree::Name(name) => paths.push((with(&name.ident), name.ident.to_string())),
        UseTree::Rename(rename) => paths.push((with(&rename.ident), rename.rename.to_string())),
        UseTree::Glob(_) => paths.push((before.to_vec(), String::new())),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, paths);
            }
        }
    }
}

/// The file that a path leads to, if it is one of this crate; re-exports are followed.
fn target(
    files: &BTreeMap<Module, Source>,
    from: &Module,
    path: &[String],
    depth: u32,
) -> Option<Module> {
    let absolute = absolute(files, from, path)?;
    let file = (0..=absolute.len())
        .rev()
        .filter_map(|length| absolute.get(..length))
        .find(|module| files.contains_key(*module))?
        .to_vec();
    let rest = absolute.get(file.len()..)?;
    let export = rest
        .first()
        .and_then(|name| files.get(&file)?.exports.get(name));
    match export {
        Some(export) if depth > 0 => {
            let path = [export.as_slice(), rest.get(1..)?].concat();
            target(files, &file, &path, depth - 1)
        }
        _ => Some(file),
    }
}

/// A path from the crate's root; none for a path of another crate, or of a local name.
fn absolute(files: &BTreeMap<Module, Source>, from: &Module, path: &[String]) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([from, rest].concat()),
        "super" => {
            let (_, parent) = from.split_last()?;
            let is_further = rest.first().is_some_and(|next| next == "super");
            if is_further {
                absolute(files, &parent.to_vec(), rest)
            } else {
                Some([parent, rest].concat())
            }
        }
        _ => {
            let child = [from.as_slice(), slice::from_ref(first)].concat();
            files
                .contains_key(&child)
                .then(|| [from.as_slice(), path].concat())
        }
    }
}
