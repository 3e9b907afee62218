package guest

import "golang.org/x/crypto/ssh"

var (
	ParseExit   = parseExit
	ParseStatus = parseStatus
	Foreign     = foreign
)

// Cipher is what c encrypts with.
func Cipher(c *Conn) string {
	return c.client.Conn.(ssh.AlgorithmsConnMetadata).Algorithms().Write.Cipher
}
