// Package ledger keeps on a node's disk what its agent must not forget: what is
// desired of the node, what was last observed of each pod, and which term of
// the core that was of. It must not decide anything from it.
//
// # The file
//
// A file is a header and records that are only ever appended: a whole set
// begins a new file. Each record is sealed (AES-256-GCM) with a key that is
// derived from the node's own and the file's salt, under its own number as the
// nonce: Secrets are in it, and a record that is damaged, missing or out of
// place does not open. Where a record is not whole at the end of the file, the
// machine lost its power before it was promised to anyone; it counts for
// nothing. All other damage is named, the file is set aside, and the ledger is
// empty: the agent then waits for the core, since half of the truth could have
// it run what runs elsewhere.
//
// # What is promised
//
// What was handed over survives the agent's end at once, and the machine's
// after Sync. Where the disk takes no more, the file is removed, so that a
// later agent finds nothing rather than what was true once.
package ledger
