// Package guest is a VM seen from the host: one kept-open SSH connection to
// its guest program, verified by the host key that banger itself generated.
package guest
