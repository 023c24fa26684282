//! Documents with so many pages.

/// A PDF whose pages say something.
pub fn pdf(pages: usize) -> Vec<u8> {
    let mut objects = vec!["<< /Type /Catalog /Pages 2 0 R >>".to_owned()];
    let kids: Vec<_> = (0..pages).map(|page| format!("{} 0 R", page + 5)).collect();
    objects.push(format!(
        "<< /Type /Pages /Kids [{}] /Count {pages} >>",
        kids.join(" ")
    ));
    objects.push("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned());
    let text = "BT /F1 24 Tf 72 700 Td (Ihr Angebot) Tj ET 72 100 400 300 re S";
    objects.push(format!(
        "<< /Length {} >>\nstream\n{text}\nendstream",
        text.len()
    ));
    let page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] \
                /Resources << /Font << /F1 3 0 R >> >> /Contents 4 0 R >>";
    objects.extend(vec![page.to_owned(); pages]);
    let (mut file, mut offsets) = ("%PDF-1.4\n".to_owned(), Vec::new());
    for (index, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        file += &format!("{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let (xref, size) = (file.len(), objects.len() + 1);
    file += &format!("xref\n0 {size}\n0000000000 65535 f \n");
    for offset in offsets {
        file += &format!("{offset:010} 00000 n \n");
    }
    file += &format!("trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{xref}\n%%EOF\n");
    file.into_bytes()
}

/// A TIFF for faxes: one directory for each page, with one strip of group 4 that is white.
pub fn tiff(pages: u32) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    for page in 1..=pages {
        let at = u32::try_from(file.len()).unwrap();
        let fields: [(u16, u16, u32); 9] = [
            (256, 4, 1728),
            (257, 4, 1),
            (258, 3, 1),
            (259, 3, 4),
            (273, 4, at + 2 + 9 * 12 + 4 + 8),
            (277, 3, 1),
            (279, 4, 4),
            (283, 5, at + 2 + 9 * 12 + 4),
            (296, 3, 2),
        ];
        file.extend(9_u16.to_le_bytes());
        for (tag, sort, value) in fields {
            file.extend(tag.to_le_bytes());
            file.extend(sort.to_le_bytes());
            file.extend(1_u32.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        let next = at + 2 + 9 * 12 + 4 + 12;
        file.extend(if page == pages { 0 } else { next }.to_le_bytes());
        file.extend(196_u32.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        // One white line, and the end of the block.
        file.extend([0x80, 0x08, 0x00, 0x80]);
    }
    file
}
