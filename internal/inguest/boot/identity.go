package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"banger/internal/guestapi"
)

// maxIdentity bounds the identity file, bytes.
const maxIdentity = 1 << 20

// ReadIdentity reads and checks the identity that the daemon wrote.
func ReadIdentity(file string) (guestapi.Identity, error) {
	f, err := os.Open(file)
	if err != nil {
		return guestapi.Identity{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIdentity))
	if err != nil {
		return guestapi.Identity{}, err
	}
	return ParseIdentity(text)
}

// ParseIdentity refuses an identity of another version, and one that lacks what
// a VM cannot do without.
func ParseIdentity(text []byte) (guestapi.Identity, error) {
	var id guestapi.Identity
	if err := json.Unmarshal(text, &id); err != nil {
		return guestapi.Identity{}, err
	}
	if id.Version != guestapi.Version {
		return guestapi.Identity{}, fmt.Errorf("version %d, want %d: the daemon and banger-guest are of different builds", id.Version, guestapi.Version)
	}
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(id.Launch != "", "no launch ID")
	need(validHostname(id.Hostname), "no valid host name")
	need(len(id.MachineID) == 32, "no machine ID of 32 digits")
	need(id.MAC != "", "no MAC address")
	need(id.Address.IsValid() && id.Gateway.IsValid(), "no address or gateway")
	need(id.HostKey != "" && len(id.AuthorizedKeys) > 0, "no keys")
	return id, errors.Join(errs...)
}

// validHostname: an RFC 1123 label, since it goes into files as it is.
func validHostname(s string) bool {
	for i, c := range s {
		edge := i == 0 || i == len(s)-1
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && (c != '-' || edge) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}
