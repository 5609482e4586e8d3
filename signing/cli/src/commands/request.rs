//! `switchback request`: signatures from machines that are on no network.

use std::{
    io::{self, BufRead, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;
use switchback_signing::{
    digest::Sha256Digest,
    metadata::{Root, Targets, Tier, add_signature},
};

use super::{key, root::RepositoryName};
use crate::{
    base::{Base, release_role},
    ceremony::{Ceremony, Deliberate, QuorumState, Report, Subject},
    clock,
    failure::failure,
    keys::SigningKey,
    output::{Output, pairs},
    signing_request::{Contents, SigningRequest},
};

/// Carry a draft to keyholders whose machines are on no network, and their signatures home
///
/// A request is one file that holds the draft, the metadata it is measured by, and what it changes in words. Read also what it says beside
/// its changes: whoever altered the file may have altered what they are measured by. Signing needs that file and
/// a key, no base. Every keyholder may sign a copy of their own: `import` brings the signatures together.
#[derive(Subcommand)]
#[command(after_help = "Example:
  switchback request export --base release --targets \\
      --out /media/stick/request.json
  switchback request sign --key targets-bob.pem /media/stick/request.json
      # on bob's machine
  switchback request import --base release /media/stick/request.json")]
pub(crate) enum Command {
    /// Write a draft as a request
    Export {
        /// Base directory
        #[arg(long, value_name = "DIR")]
        base: PathBuf,
        #[command(flatten)]
        what: What,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show what a request would have one sign, and who has signed
    Show {
        /// The request
        request: PathBuf,
    },
    /// Show what a request would have one sign, ask, and sign it in its place
    Sign {
        #[command(flatten)]
        key: SigningKey,
        /// Sign without asking, for scripts that have shown it already
        #[arg(long)]
        yes: bool,
        /// The request
        request: PathBuf,
    },
    /// Add the signatures of one or more copies of a request to the draft of the base
    #[command(visible_alias = "combine")]
    Import {
        /// Base directory
        #[arg(long, value_name = "DIR")]
        base: PathBuf,
        /// The copies
        #[arg(required = true)]
        requests: Vec<PathBuf>,
    },
}

/// Which draft.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// The root of a repository
    #[arg(long, value_name = "REPOSITORY")]
    root: Option<RepositoryName>,
    /// The top-level targets
    #[arg(long)]
    targets: bool,
    /// The releases of a tier
    #[arg(long)]
    tier: Option<Tier>,
    /// The releases that a role co-signs, such as `oem-brand-ultra`
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

impl What {
    fn subject(&self) -> Subject {
        match (self.root, &self.tier, &self.role) {
            (Some(repository), ..) => Subject::Root(repository.into()),
            (None, Some(tier), _) => Subject::Release(release_role(tier.as_str())),
            (None, None, Some(role)) => Subject::Release(role.clone()),
            (None, None, None) => Subject::Targets,
        }
    }
}

/// A request for people and programs.
#[derive(Serialize)]
struct Shown {
    request: PathBuf,
    document: String,
    expires: String,
    changes: Vec<String>,
    /// What it says beside its changes.
    rest: Vec<String>,
    signed_sha256: Sha256Digest,
    signatures: Vec<QuorumState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_now_by: Option<String>,
}

impl Shown {
    fn describe(&self) -> String {
        let mut facts =
            vec![("request", self.request.display().to_string()), ("to sign", format!("{}, valid until {}", self.document, self.expires))];
        facts.extend(self.changes.iter().map(|line| ("change", line.clone())));
        facts.extend(self.rest.iter().map(|line| ("it says", line.clone())));
        facts.push(("SHA-256", format!("{} (compare it with the other keyholders)", self.signed_sha256)));
        facts.extend(self.signatures.iter().map(|state| ("state", state.text.clone())));
        facts.extend(self.signed_now_by.iter().map(|name| ("signed by", name.clone())));
        pairs(&facts)
    }
}

pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Export { base, what, out } => {
            let base = Base::open(&base)?;
            match what.subject() {
                subject @ Subject::Root(_) => export::<Root>(&base, subject, &out, output),
                subject => export::<Targets>(&base, subject, &out, output),
            }
        }
        Command::Show { request } => {
            let opened = SigningRequest::read(&request)?;
            let shown = match opened.subject() {
                Subject::Root(_) => shown::<Root>(&opened, &request),
                Subject::Targets | Subject::Release(_) => shown::<Targets>(&opened, &request),
            };
            output.show(&shown?, Shown::describe)
        }
        Command::Sign { key, yes, request } => {
            let opened = SigningRequest::read(&request)?;
            match opened.subject() {
                Subject::Root(_) => sign::<Root>(opened, &request, &key, yes, output),
                Subject::Targets | Subject::Release(_) => sign::<Targets>(opened, &request, &key, yes, output),
            }
        }
        Command::Import { base, requests } => {
            let base = Base::open(&base)?;
            let requests =
                requests.iter().map(|path| Ok((path.as_path(), SigningRequest::read(path)?))).collect::<anyhow::Result<Vec<_>>>()?;
            let subject = requests.first().map(|(_, request)| request.subject()).context("no request is named")?;
            if let Some((path, other)) = requests.iter().find(|(_, request)| request.subject() != subject) {
                let what = format!("{} is about {}, the first request about the {}", path.display(), other.document, subject.title());
                return Err(failure(what, "import the copies of one request at a time"));
            }
            match subject {
                Subject::Root(_) => import::<Root>(&base, subject, &requests, output),
                Subject::Targets | Subject::Release(_) => import::<Targets>(&base, subject, &requests, output),
            }
        }
    }
}

fn export<T: Deliberate>(base: &Base, subject: Subject, out: &Path, output: &Output) -> anyhow::Result<()> {
    let now = clock::now();
    let ceremony = Ceremony::<T>::open(base, subject, now)?;
    let draft = ceremony.signable()?;
    let of_targets = !matches!(ceremony.subject, Subject::Root(_));
    let of_release = matches!(ceremony.subject, Subject::Release(_));
    let contents = Contents {
        subject: &ceremony.subject,
        changes: ceremony.current.changes(&draft.file.signed, ceremony.names()),
        names: ceremony.names(),
        current: ceremony.stored.clone(),
        root: of_targets.then(|| base.image_root().map(|(_, bytes)| bytes)).transpose()?,
        targets: of_release.then(|| base.targets_file(now).map(|(_, bytes)| bytes)).transpose()?,
    };
    let request = SigningRequest::new(contents, draft)?;
    request.write(out)?;
    output.show(&shown::<T>(&request, out)?, Shown::describe)
}

fn shown<T: Deliberate>(request: &SigningRequest, path: &Path) -> anyhow::Result<Shown> {
    let opened = request.open::<T>()?;
    Ok(Shown {
        request: path.to_owned(),
        document: request.document.clone(),
        expires: opened.draft.file.signed.expires().to_string(),
        changes: request.changes.clone(),
        rest: opened.rest,
        signed_sha256: request.signed_sha256,
        signatures: opened.quorums.iter().map(|quorum| quorum.state(&opened.draft.file)).collect(),
        signed_now_by: None,
    })
}

fn sign<T: Deliberate>(request: SigningRequest, path: &Path, key: &SigningKey, yes: bool, output: &Output) -> anyhow::Result<()> {
    let opened = request.open::<T>()?;
    if !yes {
        // Before the key is opened: nobody gives a passphrase for what they have not seen.
        confirm(&shown::<T>(&request, path)?)?;
    }
    let signer = key.open()?;
    let public = signer.public_key();
    let title = key::title(&key.name(), &public);
    if !opened.quorums.iter().any(|quorum| quorum.holders.holds(&public)) {
        let may: Vec<&str> = opened.quorums.iter().flat_map(|quorum| quorum.holders.names()).collect();
        return Err(failure(format!("the key {title} may not sign {}", request.document), format!("these may: {}", may.join(", "))));
    }
    let signed = request.signed(add_signature(&opened.draft.bytes, opened.draft.bytes.len(), &*signer)?)?;
    signed.write(path)?;
    output.show(&Shown { signed_now_by: Some(title), ..shown::<T>(&signed, path)? }, Shown::describe)
}

/// Shows on stderr what is to be signed, so that results stay alone on stdout, and asks.
fn confirm(shown: &Shown) -> anyhow::Result<()> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "{}\nSign this? Type the whole word yes to do so: ", shown.describe())?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        return Ok(());
    }
    writeln!(stderr)?;
    Err(failure("nothing was signed: the answer was not yes", "answer yes, or give --yes where nobody can be asked"))
}

fn import<T: Deliberate>(base: &Base, subject: Subject, requests: &[(&Path, SigningRequest)], output: &Output) -> anyhow::Result<()> {
    let mut ceremony = Ceremony::<T>::open(base, subject, clock::now())?;
    let mut checked = Vec::new();
    // All of them first: what is refused leaves the draft as it was.
    for (path, request) in requests {
        check_import(&ceremony, request).with_context(|| path.display().to_string())?;
        request.open::<T>().with_context(|| path.display().to_string())?;
        checked.push(request);
    }
    let mut added = 0;
    for request in checked {
        added += ceremony.merge(request.draft())?;
    }
    let report = ceremony.report()?.context("the draft was just there")?;
    let note = match added {
        0 => "nobody new: the copies bring no signature that the draft lacks (`request sign` signs the copy that it is given)".into(),
        added => format!("{added} new, from copies: {}", requests.len()),
    };
    output.show(&Report { signed_now_by: Some(note), ..report }, Report::describe)
}

fn check_import<T: Deliberate>(ceremony: &Ceremony<'_, T>, request: &SigningRequest) -> anyhow::Result<()> {
    if request.base_sha256 != ceremony.stored.as_deref().map(Sha256Digest::of) {
        let what = format!(
            "the base has moved on: {} was to follow another file than the base's version {}",
            request.document,
            ceremony.current.version()
        );
        return Err(failure(what, "export the draft again, and have it signed again"));
    }
    let draft = ceremony.signable()?;
    if Sha256Digest::of(draft.file.message()) != request.signed_sha256 {
        let what = format!("{} in the request is not the draft that the base has", request.document);
        return Err(failure(what, "one of the two was changed since it was exported: export it again, and have it signed again"));
    }
    Ok(())
}
