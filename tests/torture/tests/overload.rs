//! Ten times what a router can serve, for a short time: it keeps within its memory, says the truth,
//! and is itself again afterwards. How much it serves meanwhile is printed only: the machine may be
//! busy with other things.

use clap::Parser as _;
use freehold_torture::Result;
use freehold_torture::overload::{Options, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_load_leaves_a_router_itself() -> Result<()> {
    let options = Options::try_parse_from(["overload", "--seconds", "9"])?;
    let report = run(&options).await?;
    println!("{}", report.words());
    assert!(report.over.served > 0, "{}", report.words());
    Ok(())
}
