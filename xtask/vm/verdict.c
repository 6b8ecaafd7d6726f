/* Ends the machine with VERDICT through QEMU's isa-debug-exit at PORT, or exits with 1 if that is not permitted. It is a C
   program because Debian's cloud kernels have no /dev/port, and a shell has no `out`. */
static long call(long number, long first, long second, long third)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(first), "S"(second), "d"(third) : "rcx", "r11", "memory");
    return result;
}

void _start(void)
{
    call(173, PORT, 1, 1); /* ioperm */
    __asm__ volatile("outb %0, %1" : : "a"((unsigned char)VERDICT), "Nd"((unsigned short)PORT));
    call(60, 1, 0, 0); /* exit */
    __builtin_unreachable();
}
