// In place of MLX's overloads for bfloat, which stand on Apple's compiler: a kernel that casts to
// float first needs none.
#pragma once
