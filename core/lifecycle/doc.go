// Package lifecycle ends what has to end: dependents whose owners are gone,
// what a deleted namespace holds, pods of nodes that are silent or gone, jobs
// past their time, old events. It must not create what users or controllers
// ask for; only the namespaces that every cluster has.
//
// One watch for each kind feeds all parts. What is to be done is a key in a
// queue and is decided anew from the newest snapshot, so that lost or repeated
// notices do no harm. Nothing scans a resource more often than each minute.
package lifecycle
