module example.org/vectors

go 1.18
