package boot

// Logic that needs no machine.
var (
	ParseSuper   = parseSuper
	Resolve      = resolve
	RunTarget    = runTarget
	NetworkdFile = networkdFile
	ResolvedFile = resolvedFile
	ResolvFile   = resolvFile
	Halts        = halts
	PutFile      = putFile
	ErrNotExt4   = errNotExt4
	WaitDevice   = waitDevice
)

// HostsFile returns /etc/hosts for a VM of that name and address.
func HostsFile(text, oldName, name, address string) string {
	return hostsFile(text, oldName, appliedIdentity{Hostname: name, Address: address})
}

// Super returns what a superblock says.
func Super(s superblock) (blocks, blockSize uint64) { return s.blocks, s.blockSize }
