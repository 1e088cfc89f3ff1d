// Package e2e tests the programs with a genuine Postfix: three agents on loopback and a private Postfix
// instance in a directory of its own, whose master.cf runs postraft-proxymap. It needs root and the Postfix
// of the system; without them the tests are left out loudly, or fail where CI=true.
package e2e
