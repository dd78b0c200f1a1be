//! stub
/// x
#[derive(Debug, Default)]
pub struct Sequential {}
impl Sequential {
    /// x
    pub fn read(&mut self, _o: u64, _l: u64) -> u64 {
        0
    }
}
