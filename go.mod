module xsave

go 1.19
