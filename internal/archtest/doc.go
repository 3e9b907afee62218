// Package archtest makes the architecture a test: which package may import
// which, who may start a process, how long a file may be.
package archtest
