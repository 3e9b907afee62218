package boot

// What tests reach without a machine, or in namespaces of their own.
var (
	ErrNotExt4    = errNotExt4
	ApplyIdentity = applyIdentity
	EndMachine    = endMachine
	Halts         = halts
	KeepTmp       = keepTmp
	LoadModules   = loadModules
	MountRoot     = mountRoot
	NetworkdFile  = networkdFile
	PutFile       = putFile
	Resolve       = resolve
	ResolvFile    = resolvFile
	ResolvedFile  = resolvedFile
	RunTarget     = runTarget
	SmallInit     = smallInit
	WaitDevice    = waitDevice
)

// FileSystemSize is how large the file system is whose disk begins so, in bytes.
func FileSystemSize(disk []byte) (uint64, error) {
	s, err := parseSuper(disk)
	return s.blocks * s.blockSize, err
}

// HostsFile returns /etc/hosts for a VM of that name and address.
func HostsFile(text, oldName, name, address string) string {
	return hostsFile(text, oldName, appliedIdentity{Hostname: name, Address: address})
}
