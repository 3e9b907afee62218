// Package api is the wire: requests, responses, events, the error codec and
// the framed streams of exec. POST /v1/OPERATION with a JSON body, over a unix
// socket. Unknown fields are refused on both sides of the number below.
package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"banger"
	"banger/internal/rawtext"
)

// Version is the API's number: it is in every path, and a client uses a daemon
// of another build as long as this matches.
const Version = 1

// Prefix begins every path.
const Prefix = "/v1/"

// Operations, named noun.verb. Those marked op answer with an OpStarted and
// run on in the daemon; their result comes with the last event.
const (
	VMCreate  = "vm.create"  // op → VM
	VMStart   = "vm.start"   // op → VM
	VMStop    = "vm.stop"    // op → VM
	VMRestart = "vm.restart" // op → VM
	VMKill    = "vm.kill"    // op → VM
	VMReset   = "vm.reset"   // op → VM
	VMDelete  = "vm.delete"  // op → VM, as it last was
	VMWait    = "vm.wait"    // op → VM
	VMSet     = "vm.set"     // → VM
	VMList    = "vm.list"    // → VMs
	VMShow    = "vm.show"    // → VM
	VMAccess  = "vm.access"  // → Access
	VMExec    = "vm.exec"    // upgrades to StreamProtocol
	VMCopy    = "vm.copy"    // upgrades to StreamProtocol
	VMConsole = "vm.console" // upgrades to StreamProtocol: stdin and stdout are the serial console, stderr is the daemon's
	VMLogs    = "vm.logs"    // streams the log's bytes, chunked

	SSHConfig = "ssh.config" // → SSHConfigInfo

	ImageList   = "image.list"   // → Images
	ImageShow   = "image.show"   // → Image
	ImageDelete = "image.delete" // → Image, as it last was

	BundleBuild  = "bundle.build"  // op → BundleInfo
	BundleShow   = "bundle.show"   // → BundleInfo
	BundleVerify = "bundle.verify" // op → BundleInfo

	NetworkShow = "network.show" // → NetworkInfo
	NetworkMove = "network.move" // → NetworkInfo

	DaemonStatus = "daemon.status" // → Status
	DaemonStop   = "daemon.stop"   // → {}
	Doctor       = "doctor"        // → DoctorReport
	OpCancel     = "op.cancel"     // → {}
	OpList       = "op.list"       // → OpInfos
)

// OpEventsPath is GET: numbered events as newline-delimited JSON, from N on,
// until the operation has ended. Any number of clients may attach.
func OpEventsPath(id string, from int) string {
	return fmt.Sprintf("%sop/%s/events?from=%d", Prefix, id, from)
}

// EventsPath is GET: what happened to VMs (banger.VMEvent) as newline-delimited
// JSON, from number from on, 0 for all that is remembered; with follow also
// what happens, until the daemon ends.
func EventsPath(from int64, follow bool) string {
	return fmt.Sprintf("%sevents?from=%d&follow=%t", Prefix, from, follow)
}

// An Optional field of a request is absent or a value, never null: null is
// refused so that a client's mistake does not pass for "the default".
type Optional[T any] struct {
	Set   bool
	Value T
}

// Some is a field that is there.
func Some[T any](v T) Optional[T] { return Optional[T]{Set: true, Value: v} }

// IsZero leaves an absent field out (omitzero).
func (o Optional[T]) IsZero() bool { return !o.Set }

func (o Optional[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.Value) }

func (o *Optional[T]) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		// A type error, because the decoder adds the field's name to those.
		return &json.UnmarshalTypeError{Value: "null", Type: reflect.TypeFor[T]()}
	}
	o.Set = true
	return json.Unmarshal(b, &o.Value)
}

// A CreateRequest asks for a VM; what is left out gets the default.
type CreateRequest struct {
	Name    Optional[string] `json:"name,omitzero"` // absent: one is made up
	Image   Optional[string] `json:"image,omitzero"`
	CPUs    Optional[int]    `json:"cpus,omitzero"`
	Memory  Optional[int64]  `json:"memory_bytes,omitzero"`
	Disk    Optional[int64]  `json:"disk_bytes,omitzero"`
	Network Optional[string] `json:"network,omitzero"`
	Backend Optional[string] `json:"backend,omitzero"`

	WorkDisk  Optional[int64]             `json:"work_disk_bytes,omitzero"` // 0: none
	Isolated  Optional[bool]              `json:"isolated,omitzero"`
	NAT       Optional[bool]              `json:"nat,omitzero"` // true: or it does not start
	Publish   Optional[[]banger.Publish]  `json:"publish,omitzero"`
	AllowHost Optional[[]banger.HostPort] `json:"allow_host,omitzero"`
	Autostart Optional[bool]              `json:"autostart,omitzero"`

	Bundle  Optional[string] `json:"bundle,omitzero"` // directory of a runtime bundle, absolute
	NoStart bool             `json:"no_start,omitempty"`
	// Root is what the client can do where no banger-root runs: with "offered" it starts one
	// if needs_root is the answer, and asks again; "refused" is that it tried, in vain.
	Root Optional[string] `json:"root,omitzero"`
}

// A SetRequest changes a VM; what is left out stays.
type SetRequest struct {
	VM      string           `json:"vm"`
	CPUs    Optional[int]    `json:"cpus,omitzero"`
	Memory  Optional[int64]  `json:"memory_bytes,omitzero"`
	Disk    Optional[int64]  `json:"disk_bytes,omitzero"`
	Network Optional[string] `json:"network,omitzero"`
	Backend Optional[string] `json:"backend,omitzero"`

	WorkDisk   Optional[int64]             `json:"work_disk_bytes,omitzero"`
	Name       Optional[string]            `json:"name,omitzero"`
	Isolated   Optional[bool]              `json:"isolated,omitzero"`
	NAT        Optional[bool]              `json:"nat,omitzero"`
	Publish    Optional[[]banger.Publish]  `json:"publish,omitzero"`     // all of them; [] takes all away
	AddPublish Optional[[]banger.Publish]  `json:"add_publish,omitzero"` // besides those that it has
	Unpublish  Optional[[]banger.HostPort] `json:"unpublish,omitzero"`   // which it has, and is to have no more
	AllowHost  Optional[[]banger.HostPort] `json:"allow_host,omitzero"`  // all of them, as Publish
	Autostart  Optional[bool]              `json:"autostart,omitzero"`
}

// A VMRequest names a VM: its name, or a unique prefix of its ID.
type VMRequest struct {
	VM string `json:"vm"`
}

// A StopRequest asks for an orderly stop, then a kill after Timeout.
type StopRequest struct {
	VM      string            `json:"vm"`
	Timeout Optional[float64] `json:"timeout_seconds,omitzero"` // absent: 30; 0: kill at once
}

// A DeleteRequest deletes a VM; a running one only by Force.
type DeleteRequest struct {
	VM    string `json:"vm"`
	Force bool   `json:"force,omitempty"`
}

// A WaitRequest waits until a VM is ready, booted or stopped.
type WaitRequest struct {
	VM      string            `json:"vm"`
	For     string            `json:"for"`                      // ready, booted, stopped
	Timeout Optional[float64] `json:"timeout_seconds,omitzero"` // absent: as long as it takes
}

// A LogsRequest asks for a VM's log.
type LogsRequest struct {
	VM     string `json:"vm"`
	Which  string `json:"which"` // serial, vmm
	Follow bool   `json:"follow,omitempty"`
}

// An ExecRequest is the body of vm.exec, before the connection is upgraded.
type ExecRequest struct {
	VM    string         `json:"vm"`
	Argv  rawtext.List   `json:"argv,omitempty"` // empty: the user's login shell
	Env   rawtext.List   `json:"env,omitempty"`
	Dir   rawtext.String `json:"dir,omitempty"`
	User  rawtext.String `json:"user,omitempty"`
	TTY   bool           `json:"tty,omitempty"`
	Term  string         `json:"term,omitempty"`
	Rows  int            `json:"rows,omitempty"`
	Cols  int            `json:"cols,omitempty"`
	Stdin bool           `json:"stdin,omitempty"` // false: the command reads end of file
}

// A CopyRequest is the body of vm.copy, before the connection is upgraded. The
// stream of internal/filetree is then stdin, or with Out stdout; on stderr come
// lines about single files, and the exit code is 0, 1 or, for a path that is not
// there, 3.
type CopyRequest struct {
	VM      string         `json:"vm"`
	Path    rawtext.String `json:"path"`              // in the guest; relative: to root's home directory
	Out     bool           `json:"out,omitempty"`     // from the guest
	Name    rawtext.String `json:"name"`              // what the copy is called; "." only its content
	Archive bool           `json:"archive,omitempty"` // the stream is somebody's tar, compressed
}

// Access is what ssh(1) needs to reach a VM by itself.
type Access struct {
	VM            banger.VM `json:"vm"`
	Host          string    `json:"host"`
	Port          int       `json:"port"`
	User          string    `json:"user"`
	IdentityFile  string    `json:"identity_file"`
	HostPublicKey string    `json:"host_public_key"` // authorized_keys format
}

// An SSHConfigRequest asks for the ssh_config(5) of one VM, or with "" of all.
type SSHConfigRequest struct {
	VM string `json:"vm,omitempty"`
}

// SSHConfigInfo is a configuration and the files that the daemon keeps: all
// hosts' configuration and the host keys that it refers to.
type SSHConfigInfo struct {
	Config     string `json:"config"`
	File       string `json:"file"`
	KnownHosts string `json:"known_hosts"`
}

// An OpStarted names an operation under way.
type OpStarted struct {
	Op string `json:"op"`
}

// An OpRequest names an operation.
type OpRequest struct {
	Op string `json:"op"`
}

// An OpInfo describes an operation under way.
type OpInfo struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`    // as above, "vm.create"
	Subject   string    `json:"subject"` // what it is done to, for people
	StartedAt time.Time `json:"started_at"`
}

// An ImageRequest names an image: its name, or a unique prefix of its ID.
type ImageRequest struct {
	Image string `json:"image"`
}

// A BundleRequest names a bundle directory; "" means the one that is found.
type BundleRequest struct {
	Dir string `json:"dir,omitempty"`
}

// A BundleBuildRequest builds a bundle into Dir, an absolute path.
type BundleBuildRequest struct {
	Dir string `json:"dir"`
}

// A StopDaemonRequest ends the daemon; VMs go on. With Replace it is refused
// while operations, commands or followed logs are in flight. Who sits at a console
// or follows events goes on with the next daemon.
type StopDaemonRequest struct {
	Replace bool `json:"replace,omitempty"`
}

// A Status is what daemon.status tells.
type Status struct {
	PID       int    `json:"pid"`
	Build     string `json:"build"`
	API       int    `json:"api"`
	Socket    string `json:"socket"`
	StateDir  string `json:"state_dir"`
	RunDir    string `json:"run_dir"`
	Log       string `json:"log"`
	Tag       string `json:"tag"`
	Subnet    string `json:"subnet"`
	VMs       int    `json:"vms"`
	Running   int    `json:"running"`
	Ops       int    `json:"operations"`
	Streams   int    `json:"streams"` // commands, followed logs, consoles: what goes through the daemon
	StartedAt string `json:"started_at"`

	UnderWay []string `json:"under_way"` // both, for people: "vm.exec web"
	Pending  []string `json:"pending"`   // mapper devices that nobody wants and that banger-root will remove

	DNS *DNSInfo `json:"dns"` // null from a daemon that knows no names yet
}

// DNSInfo is where the daemon answers for the names of VMs.
type DNSInfo struct {
	Listen  string `json:"listen"`  // address and port, UDP and TCP; "": nowhere
	Wanted  string `json:"wanted"`  // as configured; "": switched off
	Problem string `json:"problem"` // why it is not where it was wanted; "": it is
	Guests  string `json:"guests"`  // where guests are answered, on the gateway's address; "": nowhere
	Zone    string `json:"zone"`    // "vm"
	Probe   string `json:"probe"`   // a name that is always there, of this installation alone; it is 127.0.0.1
}

// A NetworkMoveRequest asks for another subnet, as 10.77.0.0/20.
type NetworkMoveRequest struct {
	Subnet string `json:"subnet"`
}

// A NetworkInfo is what network.show tells.
type NetworkInfo struct {
	Subnet   string   `json:"subnet"`
	Gateway  string   `json:"gateway"`
	Resolver string   `json:"resolver"`
	Tag      string   `json:"tag"`      // in the names of the installation's links
	Overlaps []string `json:"overlaps"` // routes of the host's that the subnet overlaps
	Pending  []string `json:"pending"`  // links that nobody wants and that banger-root will remove
}

// A Check is one line of doctor.
type Check struct {
	Name    string `json:"name"`
	Status  string `json:"status"` // ok, note, warning, failed
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// DoctorReport is what doctor tells.
type DoctorReport struct {
	OK     bool    `json:"ok"` // no check failed
	Checks []Check `json:"checks"`
}

// A DoctorRequest asks for all checks, or those that one command needs.
type DoctorRequest struct {
	For    string `json:"for,omitempty"`
	Bundle string `json:"bundle,omitempty"` // absolute; "": the bundle that is found
	Root   string `json:"root,omitempty"`   // "offered", as in a CreateRequest
}

// A BundleInfo is a bundle's manifest and where it lies.
type BundleInfo struct {
	Dir      string          `json:"dir"`
	Manifest json.RawMessage `json:"manifest"` // bundle.json as it is
}

// An ErrorBody is what every answer that is not 2xx carries.
type ErrorBody struct {
	Error *banger.Error `json:"error"`
}
