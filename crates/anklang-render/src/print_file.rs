//! Many documents as one PDF for the printer, written object by object.
//!
//! One document at a time is read, its pages and all that they need get new numbers, and are
//! written out; the tree of pages and the table of objects come at the end. What is the same
//! in several documents (colour profiles, fonts with the same glyphs, form fields) is
//! written once: objects are compared by the hash of their bytes after renumbering, those
//! that they point to first.
//!
//! # Guarantees
//! - **Deterministic**: the same documents in the same order with the same [`Info`] give the
//!   same bytes; the file's identifier is a hash of them.
//! - **Constant memory** but for 8 bytes for each object written and 20 for each different
//!   one, so a file should not hold more than some 100,000 letters. Offsets have ten digits
//!   by the standard: [`MAX_BYTES`] keeps far below, where printers' software can follow.
//! - **PDF/A-2b** if all documents are; else plain PDF 1.7.
//!
//! # Limits
//! It takes what [`crate::document`] makes: pages that have their own boxes and resources.
//! Bookmarks, names of link targets and the structure for screen readers belong to a
//! document as a whole and are left out; the single documents have them.

use std::collections::HashMap;

use chrono::NaiveDate;
use hayro_syntax::Pdf as Reader;
use hayro_syntax::object::dict::keys::{MEDIA_BOX, OUTPUT_INTENTS, RESOURCES};
use hayro_syntax::object::{Dict, MaybeRef, ObjRef, Object, ObjectIdentifier};
use pdf_writer::{Chunk, Name, Null, Obj, Ref, Str};
use sha2::{Digest, Sha256};

use crate::document::Standard;

/// A file should be closed when it has so many bytes: 2 GiB. Software of printers that
/// counts in 32 bits is common.
pub const MAX_BYTES: u64 = 2 << 30;

/// Pages in one node of the tree of pages.
const PAGES_PER_NODE: usize = 64;
/// The deepest nesting of objects that is followed.
const MAX_DEPTH: usize = 64;

const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const METADATA: Ref = Ref::new(3);
const FIRST_FREE: i32 = 4;

/// Keys that mean something only in the document that they come from.
const LEFT_OUT: [&[u8]; 5] = [
    b"Parent",
    b"StructParent",
    b"StructParents",
    b"Tabs",
    b"Metadata",
];

/// Why a document cannot go into a print file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// It is no PDF, or one that this module does not take.
    #[error("the document cannot be merged: {0}")]
    Document(&'static str),
}

/// What a print file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its title.
    pub title: String,
    /// Its date.
    pub date: NaiveDate,
}

/// Where a document is in a print file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first page, from 1.
    pub first_page: u32,
    /// Its pages.
    pub pages: u32,
}

/// A print file under way. What it writes is appended to the buffer that each call gets; the
/// caller sends it on and empties it.
#[derive(Debug)]
pub struct PrintFile {
    info: Info,
    written: u64,
    hash: Sha256,
    /// Where object n + 1 begins; 0 while it is not written.
    offsets: Vec<u64>,
    next: i32,
    /// Objects by the first half of the SHA-256 of their bytes: enough against chance.
    known: HashMap<[u8; 16], Ref>,
    /// Nodes of the tree of pages that are written, the one under way, and its pages.
    nodes: Vec<Ref>,
    node: Option<Ref>,
    kids: Vec<Ref>,
    pages: u32,
    archival: bool,
    intents: Option<Ref>,
}

impl PrintFile {
    /// Begins a file.
    pub fn new(info: Info, out: &mut Vec<u8>) -> Self {
        let mut file = Self {
            info,
            written: 0,
            hash: Sha256::new(),
            offsets: Vec::new(),
            next: FIRST_FREE,
            known: HashMap::new(),
            nodes: Vec::new(),
            node: None,
            kids: Vec::new(),
            pages: 0,
            archival: true,
            intents: None,
        };
        // Bytes above 127 tell programs that it is not text.
        file.write(b"%PDF-1.7\n%\x80\x80\x80\x80\n\n", out);
        file
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.written
    }

    /// Pages so far.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Adds a document behind the ones before.
    ///
    /// # Errors
    /// [`MergeError`] if it cannot be read; the file cannot go on then.
    pub fn add(
        &mut self,
        pdf: Vec<u8>,
        standard: Standard,
        out: &mut Vec<u8>,
    ) -> Result<Place, MergeError> {
        let reader = Reader::new(pdf).map_err(|_| MergeError::Document("it is no PDF"))?;
        let pages = reader.pages();
        let mut copy = Copy {
            reader: &reader,
            copied: HashMap::new(),
            depth: 0,
        };
        // Pages get their numbers first: links inside of the document point to them.
        let numbers: Vec<Ref> = pages.iter().map(|_| self.number()).collect();
        for (page, number) in pages.iter().zip(&numbers) {
            if let Some(id) = page.raw().obj_id() {
                copy.copied.insert(id.into(), *number);
            }
        }
        for (page, number) in pages.iter().zip(&numbers) {
            copy.page(self, page.raw(), *number, out)?;
        }
        if standard == Standard::Plain {
            self.archival = false;
        } else if self.intents.is_none() {
            self.intents = copy.intents(self, out)?;
        }
        let place = Place {
            first_page: self.pages + 1,
            pages: u32::try_from(numbers.len()).unwrap_or(u32::MAX),
        };
        self.pages += place.pages;
        Ok(place)
    }

    /// Writes what comes at the end, and says what the whole conforms to.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Standard {
        self.close_node(out);
        let nodes = std::mem::take(&mut self.nodes);
        let pages = i32::try_from(self.pages).unwrap_or(i32::MAX);
        let mut chunk = Chunk::new();
        chunk.pages(PAGES).kids(nodes).count(pages);
        self.object(PAGES, &chunk, out);

        let archival = self.archival && self.intents.is_some();
        let metadata = self.metadata(archival);
        let mut chunk = Chunk::new();
        chunk.metadata(METADATA, metadata.as_bytes());
        self.object(METADATA, &chunk, out);

        let mut chunk = Chunk::new();
        let mut catalog = chunk.indirect(CATALOG).dict();
        catalog.pair(Name(b"Type"), Name(b"Catalog"));
        catalog.pair(Name(b"Pages"), PAGES);
        catalog.pair(Name(b"Metadata"), METADATA);
        if let Some(intents) = self.intents.filter(|_| archival) {
            catalog.pair(Name(b"OutputIntents"), intents);
        }
        drop(catalog);
        self.object(CATALOG, &chunk, out);
        self.table(out);
        if archival {
            Standard::Archival
        } else {
            Standard::Plain
        }
    }

    fn number(&mut self) -> Ref {
        let number = Ref::new(self.next);
        self.next += 1;
        number
    }

    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        out.extend_from_slice(bytes);
    }

    /// Writes an object that is whole in a chunk.
    fn object(&mut self, number: Ref, chunk: &Chunk, out: &mut Vec<u8>) {
        self.begin(number);
        self.write(chunk.as_bytes(), out);
    }

    fn begin(&mut self, number: Ref) {
        let index = usize::try_from(number.get() - 1).expect("numbers are positive");
        if self.offsets.len() <= index {
            self.offsets.resize(index + 1, 0);
        }
        self.offsets[index] = self.written;
    }

    /// Writes an object, unless the same is there already.
    fn shared(&mut self, chunk: &Chunk, out: &mut Vec<u8>) -> Ref {
        let body = chunk.as_bytes();
        let body = body.strip_prefix(DRAFT).unwrap_or(body);
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(body)[..16]);
        if let Some(there) = self.known.get(&key) {
            return *there;
        }
        let number = self.number();
        self.begin(number);
        self.write(format!("{} 0 obj\n", number.get()).as_bytes(), out);
        self.write(body, out);
        self.known.insert(key, number);
        number
    }

    /// The node that the next page belongs to.
    fn node(&mut self) -> Ref {
        if let Some(node) = self.node {
            return node;
        }
        let node = self.number();
        self.node = Some(node);
        node
    }

    fn add_page(&mut self, page: Ref, out: &mut Vec<u8>) {
        self.kids.push(page);
        if self.kids.len() == PAGES_PER_NODE {
            self.close_node(out);
        }
    }

    fn close_node(&mut self, out: &mut Vec<u8>) {
        let Some(node) = self.node.take() else {
            return;
        };
        let kids = std::mem::take(&mut self.kids);
        let count = i32::try_from(kids.len()).unwrap_or(i32::MAX);
        let mut chunk = Chunk::new();
        chunk.pages(node).parent(PAGES).kids(kids).count(count);
        self.object(node, &chunk, out);
        self.nodes.push(node);
    }

    /// The metadata by which readers know PDF/A (XMP, ISO 16684-1).
    fn metadata(&self, archival: bool) -> String {
        let title = xml(&self.info.title);
        let date = self.info.date.format("%Y-%m-%dT00:00:00Z");
        let conformance = match archival {
            true => "<pdfaid:part>2</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance>",
            false => "",
        };
        format!(
            "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\
             <x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\
             <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
             <rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\" \
             xmlns:xmp=\"http://ns.adobe.com/xap/1.0/\" \
             xmlns:pdfaid=\"http://www.aiim.org/pdfa/ns/id/\">\
             <dc:title><rdf:Alt><rdf:li xml:lang=\"x-default\">{title}</rdf:li></rdf:Alt></dc:title>\
             <xmp:CreatorTool>Anklang</xmp:CreatorTool>\
             <xmp:CreateDate>{date}</xmp:CreateDate><xmp:ModifyDate>{date}</xmp:ModifyDate>\
             {conformance}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end=\"r\"?>"
        )
    }

    /// The table of objects and the trailer.
    fn table(&mut self, out: &mut Vec<u8>) {
        let start = self.written;
        let offsets = std::mem::take(&mut self.offsets);
        let count = offsets.len() + 1;
        self.write(
            format!("xref\n0 {count}\n0000000000 65535 f\r\n").as_bytes(),
            out,
        );
        for offset in offsets {
            let entry = match offset {
                // A number that was taken and not needed.
                0 => "0000000000 65535 f\r\n".to_owned(),
                offset => format!("{offset:010} 00000 n\r\n"),
            };
            self.write(entry.as_bytes(), out);
        }
        let id: String = self.hash.clone().finalize()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let trailer = format!(
            "trailer\n<<\n/Size {count}\n/Root {} 0 R\n/ID [<{id}> <{id}>]\n>>\nstartxref\n{start}\n%%EOF\n",
            CATALOG.get()
        );
        self.write(trailer.as_bytes(), out);
    }
}

/// How an object begins whose number is not known yet.
const DRAFT: &[u8] = b"1 0 obj\n";
const DRAFT_NUMBER: Ref = Ref::new(1);

/// One document on its way into a file.
struct Copy<'a> {
    reader: &'a Reader,
    /// Its objects that are in the file.
    copied: HashMap<ObjRef, Ref>,
    depth: usize,
}

impl<'a> Copy<'a> {
    fn page(
        &mut self,
        file: &mut PrintFile,
        page: &Dict<'a>,
        number: Ref,
        out: &mut Vec<u8>,
    ) -> Result<(), MergeError> {
        if !page.contains_key(MEDIA_BOX) || !page.contains_key(RESOURCES) {
            return Err(MergeError::Document("a page has no box or resources"));
        }
        self.dependencies(file, &Object::Dict(page.clone()), out)?;
        let parent = file.node();
        let mut chunk = Chunk::new();
        let mut dict = chunk.indirect(number).dict();
        dict.pair(Name(b"Parent"), parent);
        self.entries(page, &mut dict, false);
        drop(dict);
        file.object(number, &chunk, out);
        file.add_page(number, out);
        Ok(())
    }

    /// The output intents of its catalog, which PDF/A asks for.
    fn intents(
        &mut self,
        file: &mut PrintFile,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ref>, MergeError> {
        let xref = self.reader.xref();
        let catalog: Option<Dict<'a>> = xref.get(xref.root_id());
        let Some(intents) = catalog.and_then(|c| c.get::<Object<'a>>(OUTPUT_INTENTS)) else {
            return Ok(None);
        };
        self.dependencies(file, &intents, out)?;
        let chunk = self.draft(&intents);
        Ok(Some(file.shared(&chunk, out)))
    }

    /// Writes all that an object points to.
    fn dependencies(
        &mut self,
        file: &mut PrintFile,
        object: &Object<'a>,
        out: &mut Vec<u8>,
    ) -> Result<(), MergeError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(MergeError::Document("its objects are nested too deeply"));
        }
        match object {
            Object::Array(array) => {
                for item in array.raw_iter() {
                    self.dependency(file, &item, out)?;
                }
            }
            Object::Dict(dict) => self.dependencies_of_dict(file, dict, out)?,
            Object::Stream(stream) => self.dependencies_of_dict(file, stream.dict(), out)?,
            _ => {}
        }
        self.depth -= 1;
        Ok(())
    }

    fn dependencies_of_dict(
        &mut self,
        file: &mut PrintFile,
        dict: &Dict<'a>,
        out: &mut Vec<u8>,
    ) -> Result<(), MergeError> {
        for (key, value) in dict.entries() {
            if !LEFT_OUT.contains(&&*key) {
                self.dependency(file, &value, out)?;
            }
        }
        Ok(())
    }

    fn dependency(
        &mut self,
        file: &mut PrintFile,
        value: &MaybeRef<Object<'a>>,
        out: &mut Vec<u8>,
    ) -> Result<(), MergeError> {
        let id = match value {
            MaybeRef::NotRef(object) => return self.dependencies(file, object, out),
            MaybeRef::Ref(id) => *id,
        };
        if self.copied.contains_key(&id) {
            return Ok(());
        }
        let object: Option<Object<'a>> = self.reader.xref().get(ObjectIdentifier::from(id));
        let Some(object) = object else {
            // By the standard, what is not there is null.
            return Ok(());
        };
        self.dependencies(file, &object, out)?;
        let chunk = self.draft(&object);
        let number = file.shared(&chunk, out);
        self.copied.insert(id, number);
        Ok(())
    }

    /// An object whose references are those of the file, without its own number.
    fn draft(&self, object: &Object<'a>) -> Chunk {
        let mut chunk = Chunk::new();
        match object {
            Object::Stream(stream) => {
                let data = stream.raw_data();
                let mut written = chunk.stream(DRAFT_NUMBER, &data);
                self.entries(stream.dict(), &mut written, true);
            }
            other => self.value(other, chunk.indirect(DRAFT_NUMBER)),
        }
        chunk
    }

    fn entries(&self, from: &Dict<'a>, to: &mut pdf_writer::Dict<'_>, of_stream: bool) {
        for (key, value) in from.entries() {
            let is_length = of_stream && &*key == b"Length";
            if LEFT_OUT.contains(&&*key) || is_length {
                continue;
            }
            self.item(&value, to.insert(Name(&key)));
        }
    }

    fn item(&self, value: &MaybeRef<Object<'a>>, to: Obj<'_>) {
        match value {
            MaybeRef::NotRef(object) => self.value(object, to),
            MaybeRef::Ref(id) => match self.copied.get(id) {
                Some(number) => to.primitive(*number),
                None => to.primitive(Null),
            },
        }
    }

    fn value(&self, object: &Object<'a>, to: Obj<'_>) {
        match object {
            Object::Null(_) => to.primitive(Null),
            Object::Boolean(flag) => to.primitive(*flag),
            Object::Number(number) => {
                let exact = number.as_f64();
                match i32::try_from(number.as_i64()) {
                    Ok(whole) if exact.fract() == 0.0 => to.primitive(whole),
                    _ => to.primitive(number.as_f32()),
                }
            }
            Object::String(text) => to.primitive(Str(text.as_bytes())),
            Object::Name(name) => to.primitive(Name(name)),
            Object::Dict(dict) => self.entries(dict, &mut to.dict(), false),
            Object::Array(array) => {
                let mut items = to.array();
                for item in array.raw_iter() {
                    self.item(&item, items.push());
                }
            }
            // Streams are objects of their own.
            Object::Stream(_) => to.primitive(Null),
        }
    }
}

/// Text as content of an XML element.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests;
