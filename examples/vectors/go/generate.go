// Package vectors holds a reader of XSAVE areas against test vectors; see README.md.
package vectors

//go:generate xsaveschema export go all -o xsave
//go:generate xsaveschema export vectors zen4 sapphire-rapids -o testdata
