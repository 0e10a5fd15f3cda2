//! Each policy of a binding about each platform that counts.

use std::collections::BTreeSet;

use wharf_plugin::facts::{Knowledge, PlatformFacts, SealedFacts};
use wharf_plugin::trace::{Ask, Question, Subject, Trace};

use super::PromoteError;
use super::gather::Gathered;
use crate::App;
use crate::facts::{DocumentError, Kind, Pending};
use crate::plugin::{Asked, Unasked};
use crate::promote::platforms::{self, Entry};
use crate::promote::{
    Binding, Composed, Judged, Opinion, Policy, Reason, Verdict, compose, reasons, standing,
};

/// What is kept of a platform's name, which whoever pushed the image wrote.
const LABEL_BYTES_MAX: usize = 128;

/// What a binding says of an image, with the evidence.
#[derive(Debug, Clone)]
pub(super) struct Opinions {
    pub(super) judged: Vec<Judged>,
    pub(super) composed: Composed,
    /// What may change an answer, as a standing keeps it.
    pub(super) images: Vec<String>,
    /// Something failed that may well work after this time.
    pub(super) again_in_ms: Option<u64>,
    /// A policy asked whether its distribution is past its end of life: the answer changes with time.
    pub(super) asked_end_of_life: bool,
    pub(super) opened: Vec<Opened>,
}

/// A plugin that will not be asked about an image for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) plugin: String,
    /// Digest of the platform's manifest.
    pub(super) image: String,
    pub(super) why: String,
}

/// What a question is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// A judgement: what fails counts for the breaker, and an open one is not passed.
    Judgement,
    /// A trial, with whatever config: it must not close the way to a judgement.
    Trial,
}

impl Opinions {
    /// Of what is more than can be judged: nobody is asked.
    fn none(gathered: &Gathered, reason: &Reason) -> Opinions {
        let images = images(gathered, gathered.scans.iter().map(|scan| scan.digest.to_string()));
        Opinions {
            judged: Vec::new(),
            composed: Composed {
                verdict: Verdict::Hold,
                targets: Vec::new(),
                reasons: vec![reason.clone()],
                recheck_at_ms: None,
            },
            images,
            again_in_ms: None,
            asked_end_of_life: false,
            opened: Vec::new(),
        }
    }
}

/// Asks, and takes the traces into `pending`.
pub(super) async fn binding(
    app: &App,
    binding: &Binding,
    gathered: &Gathered,
    call: Call,
    pending: &mut Pending,
) -> Result<Opinions, PromoteError> {
    let facts = match &gathered.facts {
        Ok(facts) => facts,
        Err(reason) => return Ok(Opinions::none(gathered, reason)),
    };
    let targets: Vec<String> = binding.targets.iter().map(|target| target.name.clone()).collect();
    let platforms: Vec<(u32, Option<String>, &PlatformFacts)> = counting(binding, gathered, facts);
    let share = reasons::share(platforms.len() * binding.policies.len());
    let mut judged = Vec::new();
    let (mut again_in_ms, mut asked_end_of_life, mut opened) = (None, false, Vec::new());
    for (index, name, platform) in &platforms {
        for policy in &binding.policies {
            let config = policy.config_json();
            let subject = Subject::Platform(*index);
            let asked = match call {
                Call::Judgement => app.plugins.ask(&policy.plugin, &config, facts, subject, &targets).await,
                Call::Trial => app.plugins.try_out(&policy.plugin, &config, facts, subject, &targets).await,
            };
            if matches!(&asked.answer, Err(Unasked::Interrupted)) {
                return Err(PromoteError::Interrupted);
            }
            again_in_ms = again_in_ms.into_iter().chain(asked.again_in_ms()).min();
            asked_end_of_life |= asked.trace().is_some_and(|trace| was_asked(trace, Ask::EndOfLife));
            if let Err(Unasked::Failed { text, opened_breaker: true, .. }) = &asked.answer {
                let why = reasons::beginning(text, share).to_owned();
                let (plugin, image) = (policy.plugin.clone(), platform.digest.clone());
                opened.push(Opened { plugin, image, why });
            }
            let said = judge(policy, &config, (*index, name.clone()), platform, asked, pending)?;
            judged.push(reasons::shortened(said, share));
        }
    }
    let opinions: Vec<Opinion> = judged.iter().map(opinion).collect();
    let names: Vec<Option<String>> = platforms.iter().map(|(_, name, _)| name.clone()).collect();
    let images = images(gathered, platforms.iter().map(|(_, _, platform)| platform.digest.clone()));
    Ok(Opinions {
        composed: compose(&names, &opinions, &targets),
        judged,
        images,
        again_in_ms,
        asked_end_of_life,
        opened,
    })
}

/// Platforms that count, by place and name.
fn counting<'a>(
    binding: &Binding,
    gathered: &Gathered,
    facts: &'a SealedFacts,
) -> Vec<(u32, Option<String>, &'a PlatformFacts)> {
    let (all, is_index) = (&facts.facts().platforms, facts.facts().index);
    let named = |(at, platform): (usize, &'a PlatformFacts)| {
        let (platform, scan) = (platform.platform.as_ref()?, gathered.scans.get(at)?);
        let is_named = !is_index || scan.is_named;
        is_named.then_some(Entry { platform, has_features: scan.has_features })
    };
    let named: Vec<Option<Entry<'_>>> = all.iter().enumerate().map(named).collect();
    let counts = platforms::counting(&binding.platforms, &named);
    let counting = all.iter().zip(0u32..).zip(counts).filter(|(_, counts)| *counts);
    counting
        .map(|((platform, index), _)| {
            // Two entries of an index may be for one platform: the place keeps them apart.
            let name = platform.platform.as_ref().map(ToString::to_string);
            let label = name.unwrap_or_else(|| "unknown platform".to_owned());
            let label = reasons::beginning(&label, LABEL_BYTES_MAX);
            (index, is_index.then(|| format!("{label} #{index}")), platform)
        })
        .collect()
}

/// What may change an answer: the image itself, the platforms that count, and what is yet to come into the repository, manifests or
/// their configurations, with its scan.
fn images(gathered: &Gathered, counting: impl Iterator<Item = String>) -> Vec<String> {
    let missing =
        gathered.scans.iter().filter(|scan| !scan.is_here || scan.unread.is_some()).flat_map(|scan| {
            [standing::missing(&gathered.stage.repository, &scan.digest), scan.digest.to_string()]
        });
    let all: BTreeSet<String> =
        std::iter::once(gathered.digest().to_string()).chain(counting).chain(missing).collect();
    all.into_iter().collect()
}

fn opinion(judged: &Judged) -> Opinion {
    Opinion {
        plugin: judged.plugin.clone(),
        platform: judged.platform.clone(),
        verdict: judged.verdict,
        targets: judged.targets.clone(),
        recheck_at_ms: judged.recheck_at_ms,
    }
}

/// What one call counts as. No verdict is without its evidence: where its trace cannot be kept, what it said does not count.
pub(super) fn judge(
    policy: &Policy,
    config: &str,
    (platform_index, platform): (u32, Option<String>),
    facts: &PlatformFacts,
    asked: Asked,
    pending: &mut Pending,
) -> Result<Judged, DocumentError> {
    let (trace, answer) = match asked.trace().map(|trace| keep_trace(trace, pending)).transpose() {
        Err(error @ DocumentError::TooLarge { .. }) => {
            let text = format!("{error}; hint: a plugin or a config that asks less in one call");
            (None, Err(Unasked::Held { code: "trace-too-large", text }))
        }
        trace => (trace?, asked.answer),
    };
    let Asked { version, digest, .. } = asked;
    let mut judged = Judged {
        plugin: policy.plugin.clone(),
        plugin_version: version,
        plugin_digest: digest,
        config: pending.add(Kind::Config, config.as_bytes())?,
        platform,
        platform_index,
        said: None,
        verdict: Verdict::Hold,
        reasons: Vec::new(),
        targets: Vec::new(),
        recheck_at_ms: None,
        trace,
        held_because: None,
    };
    match answer {
        Ok(said) => {
            let verdict = verdict(said.verdict);
            judged.held_because =
                (verdict == Verdict::Approve).then(|| unasked_gap(&said.trace, facts)).flatten();
            judged.verdict = if judged.held_because.is_some() { Verdict::Hold } else { verdict };
            judged.said = Some(verdict);
            judged.reasons = given(said.reasons);
            (judged.targets, judged.recheck_at_ms) = (said.targets, said.recheck_at_ms);
        }
        Err(
            Unasked::Failed { code, text, .. }
            | Unasked::Passing { code, text, .. }
            | Unasked::Held { code, text },
        ) => judged.held_because = Some(Reason::new(code, text)),
        // Ended before this; nothing that is no answer is put on record.
        Err(Unasked::Interrupted) => {}
    }
    Ok(judged)
}

pub(super) fn given(of: Vec<wharf_plugin::Reason>) -> Vec<Reason> {
    of.into_iter().map(|reason| Reason { code: reason.code, text: reason.text }).collect()
}

pub(super) fn verdict(of: wharf_plugin::Verdict) -> Verdict {
    match of {
        wharf_plugin::Verdict::Approve => Verdict::Approve,
        wharf_plugin::Verdict::Hold => Verdict::Hold,
        wharf_plugin::Verdict::Reject => Verdict::Reject,
        wharf_plugin::Verdict::Abstain => Verdict::Abstain,
    }
}

fn keep_trace(trace: &Trace, pending: &mut Pending) -> Result<String, DocumentError> {
    // Writing a trace as JSON does not fail; an empty one would not be what the digest of a real one is.
    let bytes = trace.to_canonical_bytes().unwrap_or_default();
    pending.add(Kind::Trace, &bytes)
}

fn was_asked(trace: &Trace, ask: Ask) -> bool {
    trace.questions().iter().any(|question| question.ask == ask)
}

/// What is missing that an approval did not ask about. No data is never clean.
pub(super) fn unasked_gap(trace: &Trace, facts: &PlatformFacts) -> Option<Reason> {
    if facts.scan != Knowledge::Complete && !was_asked(trace, Ask::Scan) {
        let scan = facts.scan.as_str();
        let text = format!("the scan of {} is `{scan}`, and the policy did not ask about it", facts.digest);
        return Some(Reason::new("not-scanned", text));
    }
    let asks_coverage =
        |question: &Question| matches!(question.ask, Ask::HasVulnerabilityData | Ask::VulnerabilityData(_));
    if facts.coverage.is_empty() && !trace.questions().iter().any(asks_coverage) {
        let text = format!(
            "there is no vulnerability data for {}, and the policy did not ask about that; hint: `wharf db import`",
            facts.distribution.as_deref().unwrap_or("its distribution")
        );
        return Some(Reason::new("no-vulnerability-data", text));
    }
    None
}
