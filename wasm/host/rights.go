package host

// rights say what may be done with a descriptor. Preview 1's successors have
// none, and most programs ask for any. So a descriptor has all that its kind
// allows, less what the guest itself gave up, and reading and writing only if it
// was opened for that.
type rights uint64

const (
	rightFdDatasync rights = 1 << iota
	rightFdRead
	rightFdSeek
	rightFdSetFlags
	rightFdSync
	rightFdTell
	rightFdWrite
	rightFdAdvise
	rightFdAllocate
	rightPathCreateDirectory
	rightPathCreateFile
	rightPathLinkSource
	rightPathLinkTarget
	rightPathOpen
	rightFdReaddir
	rightPathReadlink
	rightPathRenameSource
	rightPathRenameTarget
	rightPathStat
	rightPathSetSize
	rightPathSetTimes
	rightFdStat
	rightFdSetSize
	rightFdSetTimes
	rightPathSymlink
	rightPathRemoveDirectory
	rightPathUnlink
	rightPoll
	rightShutdown
	rightAccept
)

const (
	fileRights = rightFdDatasync | rightFdRead | rightFdSeek | rightFdSetFlags | rightFdSync |
		rightFdTell | rightFdWrite | rightFdAdvise | rightFdAllocate | rightFdStat |
		rightFdSetSize | rightFdSetTimes | rightPoll
	dirRights = rightFdDatasync | rightFdSetFlags | rightFdSync | rightPathCreateDirectory |
		rightPathCreateFile | rightPathLinkSource | rightPathLinkTarget | rightPathOpen |
		rightFdReaddir | rightPathReadlink | rightPathRenameSource | rightPathRenameTarget |
		rightPathStat | rightPathSetSize | rightPathSetTimes | rightFdStat | rightFdSetTimes |
		rightPathSymlink | rightPathRemoveDirectory | rightPathUnlink
	// A terminal, to wasi-libc, is a character device that cannot be sought.
	// Streams are none, but they cannot be sought either.
	streamRights = rightFdSetFlags | rightFdStat | rightPoll
)
