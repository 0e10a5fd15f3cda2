//! Each policy of a binding about each platform that counts.

use std::sync::Arc;

use wharf_plugin::facts::{Knowledge, PlatformFacts, SealedFacts};
use wharf_plugin::trace::{Ask, Subject, Trace};

use super::PromoteError;
use crate::App;
use crate::facts::{DocumentError, Kind, Pending};
use crate::plugin::{Asked, Unasked};
use crate::promote::{Binding, Composed, Judged, Opinion, Policy, Reason, Verdict, compose};

/// What a binding says of an image, with the evidence.
#[derive(Debug, Clone)]
pub(super) struct Opinions {
    pub(super) judged: Vec<Judged>,
    pub(super) composed: Composed,
    /// Digests of the platforms that count.
    pub(super) images: Vec<String>,
    /// Something failed that may well work soon.
    pub(super) is_passing_trouble: bool,
    /// Plugins that will not be asked about an image for a while, with the image and why.
    pub(super) opened: Vec<(String, String, String)>,
}

/// Asks, and takes the traces into `pending`.
pub(super) async fn binding(
    app: &App,
    binding: &Binding,
    facts: &Arc<SealedFacts>,
    pending: &mut Pending,
) -> Result<Opinions, PromoteError> {
    let targets: Vec<String> = binding.targets.iter().map(|target| target.name.clone()).collect();
    let platforms: Vec<(u32, Option<String>, &PlatformFacts)> = counting(binding, facts);
    let mut judged = Vec::new();
    let mut is_passing_trouble = false;
    let mut opened = Vec::new();
    for (index, name, platform) in &platforms {
        for policy in &binding.policies {
            let config = policy.config_json();
            let asked =
                app.plugins.ask(&policy.plugin, &config, facts, Subject::Platform(*index), &targets).await;
            if matches!(&asked.answer, Err(Unasked::Interrupted)) {
                return Err(PromoteError::Interrupted);
            }
            is_passing_trouble |= is_passing(&asked);
            if let Err(Unasked::Failed { text, opened_breaker: true, .. }) = &asked.answer {
                opened.push((policy.plugin.clone(), platform.digest.clone(), text.clone()));
            }
            judged.push(judge(policy, config, (*index, name.clone()), platform, asked, pending)?);
        }
    }
    let opinions: Vec<Opinion> = judged.iter().map(opinion).collect();
    let names: Vec<Option<String>> = platforms.iter().map(|(_, name, _)| name.clone()).collect();
    let images = platforms.iter().map(|(_, _, platform)| platform.digest.clone()).collect();
    Ok(Opinions {
        composed: compose(&names, &opinions, &targets),
        judged,
        images,
        is_passing_trouble,
        opened,
    })
}

/// Whether it may go otherwise soon: a loaded machine finds no room, or runs out of time.
fn is_passing(asked: &Asked) -> bool {
    match &asked.answer {
        Err(Unasked::Passing { .. }) => true,
        Err(Unasked::Failed { code, .. }) => *code == "timeout",
        _ => false,
    }
}

/// Platforms that count, by place and name.
fn counting<'a>(binding: &Binding, facts: &'a SealedFacts) -> Vec<(u32, Option<String>, &'a PlatformFacts)> {
    let named = facts.facts().platforms.iter().zip(0u32..).map(|(platform, index)| {
        // Two entries of an index may be for one platform: the place keeps them apart.
        let name = platform.platform.as_ref().map(ToString::to_string);
        (index, name, platform)
    });
    let counts = |name: &Option<String>| match name {
        Some(name) => binding.counts(name),
        None => binding.platforms.is_empty(),
    };
    let is_index = facts.facts().index;
    named
        .filter(|(_, name, _)| counts(name))
        .map(|(index, name, platform)| {
            let label = name.unwrap_or_else(|| "unknown platform".to_owned());
            (index, is_index.then(|| format!("{label} #{index}")), platform)
        })
        .collect()
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

fn judge(
    policy: &Policy,
    config: String,
    (platform_index, platform): (u32, Option<String>),
    facts: &PlatformFacts,
    asked: Asked,
    pending: &mut Pending,
) -> Result<Judged, DocumentError> {
    let Asked { version, digest, answer } = asked;
    let mut judged = Judged {
        plugin: policy.plugin.clone(),
        plugin_version: version,
        plugin_digest: digest,
        config,
        platform,
        platform_index,
        said: None,
        verdict: Verdict::Hold,
        reasons: Vec::new(),
        targets: Vec::new(),
        recheck_at_ms: None,
        trace: None,
        held_because: None,
    };
    match answer {
        Ok(said) => {
            let verdict = verdict(said.verdict);
            judged.held_because =
                (verdict == Verdict::Approve).then(|| unasked_gap(&said.trace, facts)).flatten();
            judged.verdict = if judged.held_because.is_some() { Verdict::Hold } else { verdict };
            judged.said = Some(verdict);
            judged.reasons =
                said.reasons.into_iter().map(|r| Reason { code: r.code, text: r.text }).collect();
            (judged.targets, judged.recheck_at_ms) = (said.targets, said.recheck_at_ms);
            judged.trace = Some(keep_trace(&said.trace, pending)?);
        }
        Err(Unasked::Failed { code, text, trace, .. }) => {
            judged.held_because = Some(Reason::new(code, text));
            judged.trace = Some(keep_trace(&trace, pending)?);
        }
        Err(Unasked::Passing { code, text } | Unasked::Held { code, text }) => {
            judged.held_because = Some(Reason::new(code, text));
        }
        // Ended before this; nothing that is no answer is put on record.
        Err(Unasked::Interrupted) => {}
    }
    Ok(judged)
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

/// What is missing that an approval did not ask about. No data is never clean.
pub(super) fn unasked_gap(trace: &Trace, facts: &PlatformFacts) -> Option<Reason> {
    let asked = |is: fn(&Ask) -> bool| trace.questions().iter().any(|question| is(&question.ask));
    if facts.scan != Knowledge::Complete && !asked(|ask| matches!(ask, Ask::Scan)) {
        let scan = facts.scan.as_str();
        let text = format!("the scan of {} is `{scan}`, and the policy did not ask about it", facts.digest);
        return Some(Reason::new("not-scanned", text));
    }
    if facts.coverage.is_empty() && !asked(|ask| matches!(ask, Ask::VulnerabilityData(_))) {
        let text = format!(
            "there is no vulnerability data for {}, and the policy did not ask about that; hint: `wharf db import`",
            facts.distribution.as_deref().unwrap_or("its distribution")
        );
        return Some(Reason::new("no-vulnerability-data", text));
    }
    None
}
