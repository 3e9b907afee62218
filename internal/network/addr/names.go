package addr

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net"
	"strings"

	"banger"
)

// Names of links have at most 15 bytes (IFNAMSIZ), too few for uid, tag and VM:
// two letters say what it is, four digits are the installation's tag, and nine
// letters, 45 bits, are a hash of all three. Whose a link is says its alias,
// never its name.

// TapName is the name of the tap that banger-root makes for a VM of the
// installation tag of user uid.
func TapName(uid uint32, tag string, vm banger.VMID) string {
	return linkName("bt", uid, tag, string(vm))
}

// TapPrefix begins the names of all taps of an installation.
func TapPrefix(tag string) string { return "bt" + tag }

// Alias begins the aliases of all links of an installation. None but root can write
// one.
func Alias(uid uint32, tag string) string { return fmt.Sprintf("banger uid=%d tag=%s ", uid, tag) }

// IsLink reports whether a link of that name and alias is one of the installation's.
// Names alone do not tell: another user may have the same tag. Only the gateway's
// link may lack an alias, where banger-root died over it.
func IsLink(uid uint32, tag, name, alias string) bool {
	return strings.HasPrefix(alias, Alias(uid, tag)) || alias == "" && name == GatewayName(uid, tag)
}

// GatewayName is the name of the link that holds the gateway's address.
func GatewayName(uid uint32, tag string) string { return linkName("bg", uid, tag, "gateway") }

// TapMAC is the host's end of that tap, a locally administered address, as
// xx:xx:xx:xx:xx:xx. It is what the guest's neighbour entry for its gateway
// says, so it is the same at each start.
func TapMAC(uid uint32, tag string, vm banger.VMID) string { return linkMAC(uid, tag, string(vm)) }

// GatewayMAC is the address of the gateway's link. No frame bears it; it marks
// the link as banger's until it has an alias.
func GatewayMAC(uid uint32, tag string) string { return linkMAC(uid, tag, "gateway") }

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func linkName(kind string, uid uint32, tag, what string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "banger link %d %s %s", uid, tag, what))
	return kind + tag + letters.EncodeToString(h[:6])[:9]
}

func linkMAC(uid uint32, tag, what string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "banger link mac %d %s %s", uid, tag, what))
	m := net.HardwareAddr(h[:6])
	m[0] = m[0]&^1 | 2
	return m.String()
}
