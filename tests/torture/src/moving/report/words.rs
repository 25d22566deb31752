//! A report as people read it.

use std::fmt::{Display, Formatter, Result};

use super::Report;
use crate::moving::changes::Changes;
use crate::moving::goals::{CAUSES, Goal, over, pauses};
use crate::moving::rounds::Turn;
use crate::moving::spread::Spread;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let [before, after] = &self.machine;
        writeln!(
            f,
            "# Moves as their users see them\n\n\
             - database: {}, every commit flushed and synced, one replica per master\n\
             - machine: {before} before and {after} after, all processes on it\n\
             - command: `{}`, seed {}\n\
             - {} rows of {} bytes; medians of rounds\n",
            self.database, self.command, self.seed, self.rows, self.value_bytes
        )?;
        self.goals(f)?;
        if !self.rounds.is_empty() {
            self.pauses(f)?;
            self.requests(f)?;
        }
        if !self.fillings.is_empty() {
            self.fillings(f)?;
        }
        self.changes
            .as_ref()
            .map_or(Ok(()), |some| changes(some, f))
    }
}

impl Report {
    fn goals(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "| goal | must | got | |\n|---|---|---:|---|")?;
        for Goal {
            what,
            must,
            got,
            met,
        } in &self.goals
        {
            let met = match met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "not in this run",
            };
            writeln!(f, "| {what} | {must} | {} | {met} |", number(*got))?;
        }
        Ok(())
    }

    fn pauses(&self, f: &mut Formatter<'_>) -> Result {
        let rounds = &self.rounds;
        let count: usize = rounds.iter().map(|round| round.moved.pauses.len()).sum();
        writeln!(
            f,
            "\nPauses of writes to a slot, in ms, in {count} hand-overs:\n\n\
             | for | p50 | p99 | longest |\n|---|---:|---:|---:|"
        )?;
        for cause in CAUSES {
            let p50 = over(rounds, |round| Some(pauses(round, cause)?.p50));
            let p99 = over(rounds, |round| Some(pauses(round, cause)?.p99));
            let longest = rounds.iter().filter_map(|round| pauses(round, cause));
            let longest = longest.map(|spread| spread.max).reduce(f64::max);
            let [p50, p99, longest] = [p50, p99, longest].map(number);
            writeln!(f, "| {} | {p50} | {p99} | {longest} |", cause.0)?;
        }
        Ok(())
    }

    fn requests(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(
            f,
            "\nRequests in ms, while nothing moved and while so many rows did:\n\n\
             | round | rows | s | /s | p50 | p99 | longest | p99 of writes |\n\
             |---:|---:|---:|---:|---:|---:|---:|---:|"
        )?;
        for (round, number) in self.rounds.iter().zip(1..) {
            for (rows, turn) in [(0, &round.without), (round.moved.rows, &round.with)] {
                writeln!(f, "| {number} | {rows} | {} |", requests(turn))?;
            }
        }
        Ok(())
    }

    fn fillings(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(
            f,
            "\nFilling a third shard, idle and under requests:\n\n\
             | round | rows | s | dump: rows | dump: s | × dump | requests: s | /s | p50 | p99 | \
             longest | p99 of writes |\n\
             |---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        )?;
        for (filling, number) in self.fillings.iter().zip(1..) {
            for filled in [&filling.idle, &filling.loaded] {
                let requests = filled.requests.as_ref();
                writeln!(
                    f,
                    "| {number} | {} | {:.1} | {} | {:.1} | {:.2} | {} |",
                    filled.rows,
                    filled.seconds,
                    filled.dump_rows,
                    filled.dump_seconds,
                    filled.seconds / filled.dump_seconds,
                    requests.map_or("| | | | |".to_owned(), self::requests)
                )?;
            }
        }
        Ok(())
    }
}

fn requests(turn: &Turn) -> String {
    let Turn {
        seconds,
        per_second,
        all_ms,
        writes_ms,
    } = turn;
    format!(
        "{seconds:.1} | {per_second:.0} | {:.1} | {:.1} | {:.1} | {:.1}",
        all_ms.p50, all_ms.p99, all_ms.max, writes_ms.p99
    )
}

fn changes(changes: &Changes, f: &mut Formatter<'_>) -> Result {
    writeln!(
        f,
        "\nOne slot changed its owner {} times under {:.0} writes/s to it, in ms:\n\n\
         | of each change | p50 | p99 | longest |\n|---|---:|---:|---:|",
        changes.longest_ms.len(),
        changes.per_second
    )?;
    let commands: Vec<f64> = changes.seconds.iter().map(|s| s * 1_000.0).collect();
    for (words, values) in [
        ("the write that took longest", &changes.longest_ms),
        ("the mover's pause", &changes.pauses_ms),
        ("the command", &commands),
    ] {
        let spread = Spread::of(values.iter().map(|value| (*value, 1)));
        let figures: [fn(Spread) -> f64; 3] = [|s| s.p50, |s| s.p99, |s| s.max];
        let [p50, p99, longest] = figures.map(|figure| number(spread.map(figure)));
        writeln!(f, "| {words} | {p50} | {p99} | {longest} |")?;
    }
    Ok(())
}

fn number(number: Option<f64>) -> String {
    number.map_or("–".to_owned(), |number| format!("{number:.2}"))
}
