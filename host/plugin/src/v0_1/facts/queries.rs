//! The two query resources. A criterion is checked and counted when it is added; nothing is looked up until the query is
//! asked.

use wasmtime::component::Resource;
use wasmtime::{Error, Result};

use super::super::bindings::wharf::plugin::facts as wit;
use crate::facts;
use crate::pattern::{MAX_PATTERN_BYTES, Range};
use crate::query::{ComponentQuery, FindingQuery, MAX_ALLOWED_LICENCES, MAX_CRITERIA};
use crate::sandbox::{CallState, ComponentQueryHandle, FindingQueryHandle};

/// What a query counts before it has criteria, in bytes.
const QUERY_BYTES: usize = 512;

/// What every criterion counts besides its text, in bytes.
const CRITERION_BYTES: usize = 16;

type Components = Resource<ComponentQueryHandle>;
type Findings = Resource<FindingQueryHandle>;

impl CallState {
    fn component_query(&mut self, query: &Components, bytes: usize) -> Result<&mut ComponentQuery> {
        self.charge()?;
        self.store_bytes(CRITERION_BYTES + bytes)?;
        let handle = self.table.get_mut(query)?;
        handle.bytes += CRITERION_BYTES + bytes;
        Ok(&mut handle.query)
    }

    fn finding_query(&mut self, query: &Findings, bytes: usize) -> Result<&mut FindingQuery> {
        self.charge()?;
        self.store_bytes(CRITERION_BYTES + bytes)?;
        let handle = self.table.get_mut(query)?;
        handle.bytes += CRITERION_BYTES + bytes;
        Ok(&mut handle.query)
    }
}

fn check_glob(glob: &str) -> Result<()> {
    if glob.len() > MAX_PATTERN_BYTES {
        return Err(Error::msg(format!(
            "a glob may have {MAX_PATTERN_BYTES} bytes, this has {}",
            glob.len()
        )));
    }
    Ok(())
}

fn add<T>(list: &mut Vec<T>, item: T) -> Result<()> {
    if list.len() >= MAX_CRITERIA {
        return Err(Error::msg(format!("a query may have {MAX_CRITERIA} criteria of one sort")));
    }
    list.push(item);
    Ok(())
}

impl wit::HostComponentQuery for CallState {
    fn new(&mut self) -> Result<Components> {
        self.charge()?;
        self.store_bytes(QUERY_BYTES)?;
        Ok(self.table.push(ComponentQueryHandle::default())?)
    }
    fn name(&mut self, query: Components, glob: String) -> Result<()> {
        check_glob(&glob)?;
        add(&mut self.component_query(&query, glob.len())?.name, glob)
    }
    fn source_name(&mut self, query: Components, glob: String) -> Result<()> {
        check_glob(&glob)?;
        add(&mut self.component_query(&query, glob.len())?.source_name, glob)
    }
    fn any_name(&mut self, query: Components, glob: String) -> Result<()> {
        check_glob(&glob)?;
        add(&mut self.component_query(&query, glob.len())?.any_name, glob)
    }
    fn version(&mut self, query: Components, range: String) -> Result<Result<(), String>> {
        let list = &mut self.component_query(&query, range.len().min(MAX_PATTERN_BYTES))?.version;
        Ok(match Range::parse(&range) {
            Ok(_) => Ok(add(list, range)?),
            Err(message) => Err(message),
        })
    }
    fn ecosystem(&mut self, query: Components, purl_type: String) -> Result<()> {
        check_glob(&purl_type)?;
        add(&mut self.component_query(&query, purl_type.len())?.ecosystem, purl_type)
    }
    fn licence(&mut self, query: Components, glob: String) -> Result<()> {
        check_glob(&glob)?;
        add(&mut self.component_query(&query, glob.len())?.licence, glob)
    }
    fn licence_outside(&mut self, query: Components, allowed: Vec<String>) -> Result<Result<(), String>> {
        if allowed.len() > MAX_ALLOWED_LICENCES {
            let found = allowed.len();
            return Ok(Err(format!(
                "a list of licences may have {MAX_ALLOWED_LICENCES} entries, this has {found}"
            )));
        }
        let bytes = allowed.iter().map(|id| id.len() + CRITERION_BYTES).sum();
        let list = &mut self.component_query(&query, bytes)?.licence_outside;
        Ok(Ok(add(list, allowed.into_iter().collect())?))
    }
    fn unlicensed(&mut self, query: Components) -> Result<()> {
        self.component_query(&query, 0)?.unlicensed = true;
        Ok(())
    }
    fn layer(&mut self, query: Components, index: u32) -> Result<()> {
        add(&mut self.component_query(&query, 0)?.layer, index)
    }
    fn path(&mut self, query: Components, glob: String) -> Result<()> {
        check_glob(&glob)?;
        add(&mut self.component_query(&query, glob.len())?.path, glob)
    }
    fn confidence_at_least(&mut self, query: Components, least: wit::Confidence) -> Result<()> {
        let least = match least {
            wit::Confidence::Hint => facts::Confidence::Hint,
            wit::Confidence::Probable => facts::Confidence::Probable,
            wit::Confidence::Confirmed => facts::Confidence::Confirmed,
            wit::Confidence::Exact => facts::Confidence::Exact,
        };
        let slot = &mut self.component_query(&query, 0)?.confidence_at_least;
        *slot = (*slot).max(Some(least));
        Ok(())
    }
    fn include_hints(&mut self, query: Components) -> Result<()> {
        self.component_query(&query, 0)?.include_hints = true;
        Ok(())
    }
    fn include_undecided(&mut self, query: Components) -> Result<()> {
        self.component_query(&query, 0)?.include_undecided = true;
        Ok(())
    }
    fn drop(&mut self, query: Components) -> Result<()> {
        let handle = self.table.delete(query)?;
        self.free_bytes(QUERY_BYTES + handle.bytes);
        Ok(())
    }
}

fn severity(severity: wit::Severity) -> facts::Severity {
    match severity {
        wit::Severity::Unknown => facts::Severity::Unknown,
        wit::Severity::Negligible => facts::Severity::Negligible,
        wit::Severity::Low => facts::Severity::Low,
        wit::Severity::Medium => facts::Severity::Medium,
        wit::Severity::High => facts::Severity::High,
        wit::Severity::Critical => facts::Severity::Critical,
    }
}

impl wit::HostFindingQuery for CallState {
    fn new(&mut self) -> Result<Findings> {
        self.charge()?;
        self.store_bytes(QUERY_BYTES)?;
        Ok(self.table.push(FindingQueryHandle::default())?)
    }
    fn at_least(&mut self, query: Findings, least: wit::Severity) -> Result<()> {
        let slot = &mut self.finding_query(&query, 0)?.at_least;
        *slot = (*slot).max(Some(severity(least)));
        Ok(())
    }
    fn severity(&mut self, query: Findings, which: wit::Severity) -> Result<()> {
        self.finding_query(&query, 0)?.severity.insert(severity(which));
        Ok(())
    }
    fn cvss_at_least(&mut self, query: Findings, tenths: u8) -> Result<()> {
        let slot = &mut self.finding_query(&query, 0)?.cvss_at_least;
        *slot = (*slot).max(Some(tenths));
        Ok(())
    }
    fn cvss_below(&mut self, query: Findings, tenths: u8) -> Result<()> {
        let slot = &mut self.finding_query(&query, 0)?.cvss_below;
        *slot = Some(slot.map_or(tenths, |least| least.min(tenths)));
        Ok(())
    }
    fn unscored(&mut self, query: Findings) -> Result<()> {
        self.finding_query(&query, 0)?.unscored = true;
        Ok(())
    }
    fn id(&mut self, query: Findings, glob: String) -> Result<()> {
        check_glob(&glob)?;
        add(&mut self.finding_query(&query, glob.len())?.id, glob)
    }
    fn source(&mut self, query: Findings, glob: String) -> Result<()> {
        check_glob(&glob)?;
        add(&mut self.finding_query(&query, glob.len())?.source, glob)
    }
    fn fixable(&mut self, query: Findings) -> Result<()> {
        self.finding_query(&query, 0)?.fixable = true;
        Ok(())
    }
    fn known_exploited(&mut self, query: Findings) -> Result<()> {
        self.finding_query(&query, 0)?.known_exploited = true;
        Ok(())
    }
    fn published_before_ms(&mut self, query: Findings, at: u64) -> Result<()> {
        let slot = &mut self.finding_query(&query, 0)?.published_before_ms;
        *slot = Some(slot.map_or(at, |least| least.min(at)));
        Ok(())
    }
    fn component_name(&mut self, query: Findings, glob: String) -> Result<()> {
        check_glob(&glob)?;
        add(&mut self.finding_query(&query, glob.len())?.component_name, glob)
    }
    fn layer(&mut self, query: Findings, index: u32) -> Result<()> {
        add(&mut self.finding_query(&query, 0)?.layer, index)
    }
    fn certain(&mut self, query: Findings) -> Result<()> {
        self.finding_query(&query, 0)?.certain = true;
        Ok(())
    }
    fn include_waived(&mut self, query: Findings) -> Result<()> {
        self.finding_query(&query, 0)?.include_waived = true;
        Ok(())
    }
    fn include_hints(&mut self, query: Findings) -> Result<()> {
        self.finding_query(&query, 0)?.include_hints = true;
        Ok(())
    }
    fn drop(&mut self, query: Findings) -> Result<()> {
        let handle = self.table.delete(query)?;
        self.free_bytes(QUERY_BYTES + handle.bytes);
        Ok(())
    }
}
