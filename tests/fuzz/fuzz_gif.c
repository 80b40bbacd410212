/* GIF. Its blocks have no check sums and end by themselves: plain mutations reach them. */
#include "tests/fuzz/fuzz_picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    fuzz_check_picture(COG_GIF, bytes, len);
    return 0;
}
