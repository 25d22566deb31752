//! Tables: wide as the terminal on one, as wide as they are elsewhere, colour only where wanted.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

/// A table with these headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if console::colors_enabled() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    if console::user_attended() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(
        headings
            .iter()
            .map(|text| Cell::new(text).add_attribute(Attribute::Bold)),
    );
    // The first column begins where the line does.
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

/// A cell of a number.
pub(crate) fn number(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A cell that says that something is well, or not.
pub(crate) fn status(text: &str, good: bool) -> Cell {
    Cell::new(text).fg(if good { Color::Green } else { Color::Red })
}

/// The table without the blanks that pad its last column.
pub(crate) fn render(table: &Table) -> String {
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
