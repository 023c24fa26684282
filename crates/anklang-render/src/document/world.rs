//! What a Typst template can reach: itself, the embedded modules, the embedded
//! fonts and its data. There is no file system, no network and no clock.

use std::sync::LazyLock;

use typst::diag::{FileError, FileResult, PackageError, StrResult, bail};
use typst::foundations::{Binding, Bytes, Datetime, Dict, Duration, Module, Scope, Value};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World};
use typst_kit::fonts::{FontStore, embedded};

/// Modules that every template can import, with their paths.
const MODULES: [(&str, &str); 2] = [
    (
        "/anklang/de.typ",
        include_str!("../../templates/anklang/de.typ"),
    ),
    (
        "/anklang/din5008.typ",
        include_str!("../../templates/anklang/din5008.typ"),
    ),
];

/// Functions that templates do not get. `eval` could turn a customer's name into
/// code; `plugin` runs WebAssembly, which knows no limit of time.
const WITHHELD: [&str; 2] = ["eval", "plugin"];

static FONTS: LazyLock<FontStore> = LazyLock::new(|| {
    let mut store = FontStore::new();
    store.extend(embedded());
    store
});

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let mut library = Library::default();
    let mut scope = Scope::new();
    for (name, binding) in library.global.scope().iter() {
        if !WITHHELD.contains(&name.as_str()) {
            scope.bind(name.clone(), binding.clone());
        }
    }
    library.global = Module::new("global", scope);
    library.std = Binding::detached(library.global.clone());
    library
});

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    MODULES
        .map(|(path, text)| Source::new(file(path), text.to_owned()))
        .into()
});

/// One id for the main source of all templates: ids are a global resource of
/// which there are 65,535, and it is the world that says what is behind them.
static MAIN: LazyLock<FileId> = LazyLock::new(|| file("/main.typ"));

fn file(path: &str) -> FileId {
    let path = VirtualPath::new(path).expect("the paths above are valid");
    RootedPath::new(VirtualRoot::Project, path).intern()
}

/// Whether a template can import this path.
pub(super) fn is_module(path: &str) -> bool {
    MODULES.iter().any(|(module, _)| *module == path)
}

/// A parsed main source; cheap to clone.
pub(super) fn parse(text: &str) -> Source {
    Source::new(*MAIN, text.to_owned())
}

/// One template and the data of one document.
pub(super) struct DocumentWorld<'a> {
    main: &'a Source,
    library: LazyHash<Library>,
}

impl<'a> DocumentWorld<'a> {
    pub(super) fn new(main: &'a Source, inputs: Dict) -> Self {
        Self {
            main,
            library: LazyHash::new(library_with(inputs)),
        }
    }

    pub(super) fn main_source(&self) -> &Source {
        self.main
    }
}

/// The shared library with other `sys.inputs`: building it anew takes longer
/// than laying out a letter.
fn library_with(inputs: Dict) -> Library {
    let mut library = LIBRARY.clone();
    set_inputs(&mut library.global, inputs).expect("the standard library has `sys.inputs`");
    library.std = Binding::detached(library.global.clone());
    library
}

fn set_inputs(global: &mut Module, inputs: Dict) -> StrResult<()> {
    let Some(sys) = global.scope_mut().get_mut("sys") else {
        bail!("no `sys`");
    };
    let Value::Module(sys) = sys.write()? else {
        bail!("`sys` is not a module");
    };
    let Some(binding) = sys.scope_mut().get_mut("inputs") else {
        bail!("no `sys.inputs`");
    };
    *binding.write()? = Value::Dict(inputs);
    Ok(())
}

impl World for DocumentWorld<'_> {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        FONTS.book()
    }

    fn main(&self) -> FileId {
        self.main.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == self.main.id() {
            return Ok(self.main.clone());
        }
        let found = SOURCES.iter().find(|source| source.id() == id);
        found.cloned().ok_or_else(|| refuse(id))
    }

    /// Nothing can be read as data, not even a template.
    fn file(&self, id: FileId) -> FileResult<Bytes> {
        Err(refuse(id))
    }

    fn font(&self, index: usize) -> Option<Font> {
        FONTS.font(index)
    }

    /// Documents carry the date of their data; templates do not know today.
    fn today(&self, _: Option<Duration>) -> Option<Datetime> {
        None
    }
}

fn refuse(id: FileId) -> FileError {
    let path = id.vpath().get_with_slash();
    match id.root() {
        VirtualRoot::Package(package) => FileError::Package(PackageError::Other(Some(
            format!("packages are not available in templates: {package}").into(),
        ))),
        VirtualRoot::Project => FileError::Other(Some(
            format!("templates cannot read files, only import /anklang/*.typ: {path}").into(),
        )),
    }
}
