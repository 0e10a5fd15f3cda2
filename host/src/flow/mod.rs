//! One file a story, each read top to bottom.

pub mod account;
pub mod collect;
pub mod db_import;
pub mod delete;
pub mod grant;
pub mod observe;
pub mod plugin_drop;
pub mod promote;
pub mod push;
pub mod repository;
pub mod retention;
pub mod scan_image;
pub mod scrub;
pub mod token;
pub mod upload;
