package boot

import (
	"time"

	"banger/internal/guestapi"
)

// What tests reach without a machine, or in namespaces of their own.
var (
	ErrNotExt4    = errNotExt4
	ApplyIdentity = applyIdentity
	EndMachine    = endMachine
	Halts         = halts
	HasVSock      = hasVSock
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
	SetUpNetwork  = setUpNetwork
	WaitDevice    = waitDevice
	MountWorkDisk = mountWorkDisk
	Fought        = errFought
)

// Keep keeps the network, as the supervisor does with more patience.
func Keep(id guestapi.Identity, first, most, calm time.Duration) error {
	return keeper{id, first, most, calm}.keep()
}

// Whole reports whether there is nothing to put back.
func Whole(id guestapi.Identity) bool { return keeper{id: id}.whole() }

// FileSystemSize is how large the file system is whose disk begins so, in bytes.
func FileSystemSize(disk []byte) (uint64, error) {
	s, err := parseSuper(disk)
	return s.blocks * s.blockSize, err
}

// FindDisk returns the disk that is found by the UUID of its file system.
func FindDisk(device, uuid string) (string, error) {
	d, _, err := findDisk(device, uuid)
	return d, err
}

// HostsFile returns /etc/hosts for a VM of that name and address.
func HostsFile(text, oldName, name, address string) string {
	return hostsFile(text, oldName, appliedIdentity{Hostname: name, Address: address})
}
