//! `kubectl describe`

use clap::{ArgAction, Args};

use crate::cluster::Query;
use crate::describe;
use crate::error::Error;
use crate::flags::Context;
use crate::manifest::FileFlags;
use crate::output;
use crate::selector::SelectorFlags;
use crate::target;

/// Show details of a specific resource or group of resources
#[derive(Debug, Args)]
pub struct Describe {
    /// TYPE, TYPE NAME_PREFIX..., TYPE/NAME...
    words: Vec<String>,
    #[command(flatten)]
    files: FileFlags,
    #[command(flatten)]
    select: SelectorFlags,
    /// If true, display events related to the described object
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    show_events: bool,
    /// Return large lists in chunks rather than all at once
    #[arg(long, hide = true)]
    chunk_size: Option<u32>,
}

pub async fn run(args: Describe, context: &Context) -> Result<(), Error> {
    if args.words.is_empty() && args.files.is_empty() {
        return Err(Error::Plain(
            "You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete list of supported \
             resources."
                .to_owned(),
        ));
    }
    let cluster = context.cluster().await?;
    let found = match target::objects(&cluster, &args.words, &args.files, &args.select, true).await {
        Ok(found) => found,
        // `describe pod web` also finds web-1 and web-2.
        Err(error) if error.is_not_found() && args.words.len() == 2 => {
            let resource = cluster.discovery().await?.find(&args.words[0])?.clone();
            let mut all = target::list(&cluster, &resource, Some(&cluster.namespace), &Query::new()).await?;
            all.retain(|found| found.name().starts_with(&args.words[1]));
            if all.is_empty() {
                return Err(error);
            }
            all
        }
        Err(error) => return Err(error),
    };
    if found.is_empty() {
        eprintln!(
            "No resources found{}",
            if args.select.all_namespaces { String::new() } else { format!(" in {} namespace.", cluster.namespace) }
        );
    }
    for (index, found) in found.iter().enumerate() {
        let text = describe::describe(&cluster, found, args.show_events).await?;
        output::write(format_args!("{}{text}", if index > 0 { "\n\n" } else { "" }))?;
    }
    Ok(())
}
