use http::Method;

use super::client::Remote;
use super::output::short;
use crate::api::admin::{NewPromotion, PromotionEntry};

/// Promote an image by hand: point a tag elsewhere at what this one points at
///
/// It needs the right to pull the one and to maintain the other. The image's referrers (signatures, SBOMs) go along;
/// nothing is copied. Bindings promote by themselves: see `wharf policy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf promote dev/app:1.4 --to qa/app:1.4 --note 'hotfix, agreed with QA'")]
pub(super) struct Promote {
    /// Image, as REPOSITORY:TAG
    image: String,
    /// Where to, as REPOSITORY:TAG; without a tag, the image's
    #[arg(long, value_name = "IMAGE")]
    to: String,
    /// Why, for whoever reads the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    #[command(flatten)]
    remote: Remote,
}

impl Promote {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let to = match (self.to.contains(':'), self.image.rsplit_once(':')) {
            (false, Some((_, tag))) => format!("{}:{tag}", self.to),
            _ => self.to,
        };
        let body = NewPromotion { from: self.image, to, note: self.note };
        let done: PromotionEntry = client.send(Method::POST, &["promotions"], &body).await?;
        self.remote
            .output
            .show(&done, |done| format!("promoted {} -> {} ({})\n", done.from, done.to, short(&done.digest)))
    }
}
