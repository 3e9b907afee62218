package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/guestapi"
)

// writeManagers tells the image's network managers, whichever it has, to leave
// eth0 as it is: a DHCP client of theirs would take the address away within a
// second. All of it lies in /run and is gone with the VM's run.
func writeManagers(id guestapi.Identity) error {
	var errs []error
	for file, content := range map[string]string{
		// sorts before everything that an image or netplan has
		"/run/systemd/network/00-banger.network":      networkdFile(id),
		"/run/systemd/resolved.conf.d/00-banger.conf": resolvedFile(id),
		"/run/NetworkManager/conf.d/00-banger.conf":   "[keyfile]\nunmanaged-devices=interface-name:" + linkName + "\n",
	} {
		errs = append(errs, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)))
	}
	const interfaces = "/etc/network/interfaces"
	if _, err := os.Stat(interfaces); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, coverFile(interfaces, "# "+linkName+" is set up by banger\nauto lo\niface lo inet loopback\n", 0o644))
	}
	return errors.Join(errs...)
}

func networkdFile(id guestapi.Identity) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Match]\nName=%s\n\n[Network]\nAddress=%s\nKeepConfiguration=static\n", linkName, id.Address)
	b.WriteString("DHCP=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n")
	for _, r := range id.Resolvers {
		fmt.Fprintf(&b, "DNS=%s\n", r)
	}
	fmt.Fprintf(&b, "\n[Route]\nGateway=%s\nGatewayOnLink=yes\n", id.Gateway)
	return b.String()
}

func resolvedFile(id guestapi.Identity) string {
	var b strings.Builder
	b.WriteString("[Resolve]\nDNS=")
	for i, r := range id.Resolvers {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(r.String())
	}
	b.WriteString("\n")
	return b.String()
}
