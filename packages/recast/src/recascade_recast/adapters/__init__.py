"""ReCast for engines that train language models; none of them is imported here."""
